"""Lemmas of answers for LaVIT's protocol, which compares "dogs" and "dog" as equal.

The release uses spaCy's `en_core_web_sm` on nouns and verbs. Its model is not on PyPI: give its directory, or use the
rules here, which are not spaCy and carry their own name in a score.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from lavit_scoring.errors import InputError

Lemmatize = Callable[[str], str]

RULES = "rules-1"
"""Name and version of the built-in rules; goes up when an answer could get another lemma."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IRREGULAR = {"men": "man", "women": "woman", "children": "child", "people": "people", "feet": "foot", "teeth": "tooth",
              "mice": "mouse", "geese": "goose", "knives": "knife", "leaves": "leaf", "shelves": "shelf",
              "wolves": "wolf", "loaves": "loaf", "halves": "half", "scarves": "scarf", "wives": "wife",
              "ate": "eat", "sat": "sit", "ran": "run", "stood": "stand", "held": "hold", "wore": "wear",
              "gave": "give", "went": "go", "took": "take", "broken": "break", "eaten": "eat", "worn": "wear",
              "is": "be", "are": "be", "was": "be", "were": "be", "has": "have", "had": "have",
              "does": "do", "did": "do", "lying": "lie", "dying": "die", "tying": "tie"}  # fmt: skip
_AS_THEY_ARE = _words(
    """glass grass bus gas tennis bass dress class brass pass boss cross christmas asparagus hummus cactus canvas
lens series species news jeans pants shorts glasses sunglasses scissors clothes this his its yes us plus
always texas paris las kansas building ceiling morning evening railing wedding clothing painting king ring
string thing spring wing pudding nothing something everything anything sterling bring sing swing red bed shed
sled seed weed reed speed feed need bleed united hundred naked sacred kid"""
)
_E_VERBS = _words(
    """skat rid driv tak mak giv smil writ us bak serv danc plac clos com hav leav typ shav slic rac pos balanc wav
bik hik chas div glid mov liv lov pil grat carv stor slid shin breath bath juggl paddl cycl"""
)


def as_given(text: str) -> str:
    """Return text as it is: the official rules compare no lemmas."""
    return text


def lemmatizer(name: str) -> Lemmatize:
    """Return a lemmatizer: "given" leaves text alone, "rules" are built in, anything else is a spaCy model directory.

    Raises InputError if spaCy or the directory is missing.
    """
    if name == "given":
        return str.lower
    if name == "rules":
        return by_rules
    return _spacy(Path(name))


@lru_cache(maxsize=1 << 16)
def by_rules(answer: str) -> str:
    """Return lower-case text with plurals and verb endings cut by rule."""
    return " ".join(lemma(word) for word in answer.lower().split(" "))


def lemma(word: str) -> str:
    """Return the base form of one lower-case English word by rule."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _AS_THEY_ARE or not word.isalpha() or len(word) < 4:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + ("ie" if word in ("cookies", "movies", "brownies", "zombies", "selfies") else "y")
    if re.search(r"(?:[sxz]|ch|sh|o)es$", word) and not word.endswith(("shoes", "toes", "ses", "zes", "aches")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending):
            return _base(word, word[: -len(ending)])
    return word


def _base(word: str, stem: str) -> str:
    if len(stem) < 2 or not re.search(r"[aeiouy]", stem):
        return word
    if stem in _E_VERBS:
        return stem + "e"
    if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
        return stem[:-1]
    return stem


def _spacy(folder: Path) -> Lemmatize:
    if not folder.is_dir():
        raise InputError(
            f"--lemmatizer {folder}: no such directory, expected given, rules or a spaCy model directory; "
            "download en_core_web_sm from spaCy's releases and unpack it"
        )
    try:
        import spacy
    except ImportError:
        raise InputError(f"--lemmatizer {folder}: spaCy is not installed; run `pip install spacy`") from None
    try:
        nlp = spacy.load(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"--lemmatizer {folder}: not a spaCy model ({' '.join(str(error).split())[:200]})") from None

    @lru_cache(maxsize=1 << 16)
    def lemmas(answer: str) -> str:
        """Source: `_lemmatize` of LaVIT's release: lemmas of nouns and verbs, other words unchanged."""
        return " ".join(token.lemma_ if token.pos_ in ("NOUN", "VERB") else token.text for token in nlp(answer.lower()))

    return lemmas

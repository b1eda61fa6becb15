"""Replies to questions with choices as a letter, by the rules that papers' numbers rest on, quirks included."""

import re
import string
from collections.abc import Sequence

LETTERS = string.ascii_uppercase
_MARKS = str.maketrans("", "", string.punctuation)
_SPACES = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))


def exact(reply: str, choices: Sequence[str]) -> str | None:
    """Return the reply itself: a letter or nothing, as SEED-Bench's own files have it."""
    return reply if reply in _of(choices) else None


def first_character(reply: str, choices: Sequence[str]) -> str | None:
    """Return the first character of a stripped reply, of either case: `apple` is A. Source: lmms-eval, SEED-Bench."""
    return exact(reply.strip()[:1].upper(), choices)


def bare_letter(reply: str, choices: Sequence[str]) -> str | None:
    """Return a capital before a full stop at the beginning, else a reply that is a letter once case and punctuation
    are gone: `A. dog` and `(a)` are A, `A dog` has no letter.

    Source: lmms-eval, AI2D (flexible-extract, then exact_match with ignore_case and ignore_punctuation).
    """
    found = re.match(r"\s*([A-Z])\.", reply)
    return exact(found[1] if found else reply.translate(_MARKS).upper(), choices)


def letter_and_stop(reply: str, choices: Sequence[str]) -> str | None:
    """Return a letter alone, of either case, or a capital with a full stop after it: `A. dog` is A, `(A)` is nothing.

    Source: lmms-eval, ScienceQA.
    """
    text = reply.strip()
    return exact(text[0] if re.match(r"[A-Z]\.", text) else text.upper(), choices)


def llava_letter(reply: str, choices: Sequence[str]) -> str | None:
    """Return a letter alone, one before `. `, or the one in `The answer is A`. Source: LLaVA, eval_science_qa.py."""
    text = reply.replace("\n", ". ")
    if text.strip() in LETTERS[:5]:
        return exact(text.strip(), choices)
    if re.match(r"[A-E]\. ", text):
        return exact(text[0], choices)
    found = re.search(r"The answer is ([A-E])\.", text) or re.search(r"The answer is ([A-E])", text)
    return exact(found[1], choices) if found else None


def last_letter(reply: str, choices: Sequence[str]) -> str | None:
    """Return the last letter in brackets, else the last one before a space or full stop, else of replies of more than
    five words the choice named last; None where the script guesses.

    So `A dog` is A, and in `Both B and A.` the letter that no space follows is not seen. Source: lmms-eval, MMMU.
    """
    for mark in ",.!?;:'":
        reply = reply.strip(mark)
    text, own = f" {reply} ", _of(choices)
    for pattern, place in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        if named := [letter for letter in own if pattern.format(letter) in text]:
            # The script looks for the place of several with spaces around them; the first one wins a tie.
            return max(named, key=lambda letter: text.rfind(place.format(letter)))
    low = text.lower()
    if len(text.split()) > 5:
        named = [letter for letter, choice in zip(own, choices, strict=True) if choice.lower() in low]
        if named:
            return max(named, key=lambda letter: low.rfind(choices[own.index(letter)].lower()))
    return None


def only_letter(reply: str, choices: Sequence[str]) -> str | None:
    """Return the only letter among a reply's last words, else the only choice whose text is in it.

    Source: VLMEvalKit's rules before it asks a judge (which is not asked here).
    """
    words = reply.translate(_SPACES).split()
    named = [letter for letter in _of(choices) if letter in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:
        return named[0]
    low = reply.lower()
    if len(low) > 2 * sum(map(len, choices)):
        return None
    named = [letter for letter, choice in zip(_of(choices), choices, strict=True) if choice.lower() in low]
    return named[0] if len(named) == 1 else None


def _of(choices: Sequence[str]) -> list[str]:
    return list(LETTERS[: len(choices)])

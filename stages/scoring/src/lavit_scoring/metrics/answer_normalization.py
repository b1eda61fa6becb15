"""How answers are made comparable before they are compared: the rules of three evaluation scripts, quirks included.

Sources: GT-Vision-Lab/VQA `vqaEval.py` of March 2021 (VQAv2 and OK-VQA servers), the VizWiz evaluator, and the
scorer in LaVIT's release. A quirk is kept because a score without it is another score.
"""

import re
from functools import lru_cache

MARKS = tuple(';/[]"{}()=+\\_-><@`,?!')
"""Punctuation that is removed. No colon, apostrophe or currency sign among them: `10:30` and `$5` stay."""

ARTICLES = frozenset(["a", "an", "the"])
NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
           "seven": "7", "eight": "8", "nine": "9", "ten": "10"}  # fmt: skip

_EXPANDED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've
why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've
"""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
CURLY = "\u2019"
_MAX_PERIODS = 32  # the scripts pass a flag (re.UNICODE) where the count belongs


def _contractions() -> dict[str, str]:
    """Return spelling -> spelling with all its apostrophes; a key misses exactly one of them."""
    table = {}
    for word in _EXPANDED.split():
        for place, letter in enumerate(word):
            if letter == "'":
                table[word[:place] + word[place + 1 :]] = word
    # The scripts' table has one entry the wrong way round; its entries with capitals can't match lower-case words.
    return table | {"somebody'd": "somebodyd"}


def _curly_contractions() -> dict[str, str]:
    """Return VizWiz's table: typographic apostrophes, so that most entries turn words into ones nobody typed."""
    straight = {"ain't", "aren't", "can't", "could've", "couldn't", "we've", "where's", "who've"}
    straight_keys = {"couldn'tve", "hadn'tve"}
    return {
        (key if key in straight_keys else key.replace("'", CURLY)): (
            value if value in straight else value.replace("'", CURLY)
        )
        for key, value in _contractions().items()
    }


CONTRACTIONS = _contractions()
CURLY_CONTRACTIONS = _curly_contractions()

LEADS = ("it's ", "it is ", "this is ", "that is ", "she's ", "she 's ", "she is ", "he's ", "he 's ", "he is ",
         "they are ", "they're ", "very ", "for ", "to ", "in ", "on ", "at ", "a ", "an ", "the ")  # fmt: skip
"""What LaVIT's scorer cuts from the front of an answer, in this order."""

_NO_ANSWER = ("i don't know", "i do n't know", "i need to know")


def one_line(answer: str) -> str:
    """Return an answer with newlines and tabs as spaces, stripped (all three scripts begin with this)."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(text: str) -> str:
    """Return text without the marks: deleted where one touches a space anywhere or digit,comma,digit occurs, else a space.

    A full stop goes unless a digit follows, at most 32 of them.
    """  # noqa: E501
    out, number = text, None
    for mark in MARKS:
        if mark in text:
            if number is None:
                number = _COMMA_IN_NUMBER.search(text) is not None
            out = out.replace(mark, "" if number or f"{mark} " in text or f" {mark}" in text else " ")
    return _PERIOD.sub("", out, count=_MAX_PERIODS) if "." in out else out


def plain_words(text: str, numbers: dict[str, str], contractions: dict[str, str]) -> str:
    """Return lower-case words with single spaces: number words as digits, articles dropped, apostrophes restored."""
    kept = [numbers.get(word, word) for word in text.lower().split()]
    return " ".join(contractions.get(word, word) for word in kept if word not in ARTICLES)


@lru_cache(maxsize=1 << 16)
def normalize_vqa(answer: str) -> str:
    """Return an answer as the VQAv2 and OK-VQA server compares it (when the ten answers differ)."""
    return plain_words(strip_punctuation(answer), NUMBERS, CONTRACTIONS)


@lru_cache(maxsize=1 << 16)
def normalize_vizwiz(answer: str) -> str:
    """Return a predicted answer as the VizWiz server compares it."""
    return plain_words(strip_punctuation(one_line(answer)), NUMBERS, CURLY_CONTRACTIONS)


@lru_cache(maxsize=1 << 16)
def normalize_lavit_truth(answer: str) -> str:
    """Return a human answer as LaVIT's scorer compares it (when the answers of a question differ)."""
    return strip_punctuation(answer).lower()


@lru_cache(maxsize=1 << 16)
def normalize_lavit(answer: str) -> str:
    """Return a predicted answer as LaVIT's scorer compares it."""
    text = plain_words(normalize_lavit_truth(one_line(answer)), NUMBERS | {"nope": "no"}, CONTRACTIONS)
    if not text or text.startswith(_NO_ANSWER):
        text = "unanswerable"
    for lead in LEADS:
        if text.startswith(lead):
            # After the last place where the phrase occurs, not the first.
            text = text.split(lead)[-1]
    return text

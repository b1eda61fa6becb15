"""Penn-Treebank words of captions, as the COCO caption server cuts them; pure Python, no Java.

The server runs Stanford's PTBTokenizer 3.4.1 (`-preserveLines -lowerCase`) and drops punctuation. This reproduces what
that does to captions; a rare form it does not know (a word that begins with an apostrophe, say) may be cut otherwise.
"""

import re
from collections.abc import Sequence

SEPARATORS = re.compile(r"[\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029]+")
"""What any tool takes for the end of a line. One inside a caption would shift every later caption by one."""

DROPPED = frozenset([*"'`.?!,:;-", "''", "``", "--", "...", "-LRB-", "-RRB-", "-LCB-", "-RCB-"])
"""Tokens that do not count. The bracket names are upper case while tokens are lower case: brackets do count."""

_QUOTES = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": " ", "\u201d": " ", '"': " ", "\u2013": " -- ", "\u2014": " -- "}
    | {"\u2026": "...", "\u00a0": " ", "\u00a3": "#"}
)
_ABBREVIATIONS = (
    "mr|mrs|ms|dr|st|jr|sr|prof|gen|lt|sgt|capt|col|rev|ave|blvd|rd|vs|etc|inc|co|corp|ltd|mt|ft|dept|"
    "jan|feb|apr|jun|jul|aug|sep|sept|oct|nov|dec"
)
_PIECES = re.compile(
    rf"""
      (?:[a-z]\.){{2,}} | \b(?-i:[A-Z])\.                 # u.s.a., and initials
    | \b(?:{_ABBREVIATIONS})\.                            # an abbreviation keeps its dot
    | \d+(?:[,.:/]\d+)+(?:st|nd|rd|th|s|am|pm)?           # 1,000  10:30  1/2
    | no\.(?=\s*\d)
    | '\d0s\b
    | (?:[#@](?=[^\W\d_]))?[^\W_](?:\w|[-'/@.](?=\w))*                      # words, with hyphens and apostrophes inside
    | '(?:s|d|m|re|ve|ll|em|n'?)\b'?
    | \.\.\.|--|[?!]{{2,}}|[^\w\s]|_+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ENDING = re.compile(r"^(.+?)(n't|'s|'d|'m|'re|'ve|'ll)$")
_PAIRS = {"cannot": ("can", "not"), "gonna": ("gon", "na"), "gotta": ("got", "ta"), "wanna": ("wan", "na"),
          "y'all": ("y'", "all"), "lemme": ("lem", "me"), "gimme": ("gim", "me")}  # fmt: skip
_NAMES = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}


def words(caption: str) -> list[str]:
    """Return the lower-case words of one caption, punctuation left out."""
    found: list[str] = []
    line = SEPARATORS.sub(" ", caption).translate(_QUOTES)
    for piece in map(str.lower, _PIECES.findall(line)):
        if piece in _NAMES:
            found.append(_NAMES[piece])
        elif piece in _PAIRS:
            found += _PAIRS[piece]
        elif (ending := _ENDING.match(piece)) is not None:
            found += ending.groups()
        else:
            found.append(piece)
    return [word for word in found if word not in DROPPED]


def tokenize(captions: Sequence[str]) -> list[list[str]]:
    """Return the words of each caption: always one list a caption, whatever is inside."""
    return [words(caption) for caption in captions]

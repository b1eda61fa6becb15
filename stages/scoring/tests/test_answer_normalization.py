"""Every quirk of how the official scripts normalize an answer."""

import pytest
from lavit_scoring.metrics.answer_normalization import (
    normalize_lavit,
    normalize_vqa,
)


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("t-shirt", "t shirt"),  # no mark touches a space: a space instead of each
        ("1,000-2,000 t-shirt", "10002000 tshirt"),  # digit,comma,digit anywhere: every mark vanishes everywhere
        ("red, t-shirt", "red t shirt"),  # the comma touches a space and vanishes; the hyphen does not
        ("-5", "5"),
        ("10:30", "10:30"),  # colon, apostrophe and dollar are no marks
        ("$5", "$5"),
        ("U.S.A.", "usa"),
        ("a.b", "ab"),
        ("3.5", "3.5"),  # a digit follows
        ("5.", "5"),
        ("none", "0"),
        ("Ten", "10"),
        ("the dog", "dog"),
        ("A an THE", ""),
        ("dont", "don't"),
        ("Im", "im"),  # the table's entries with capitals never match
        ("somebody'd", "somebodyd"),  # one entry is the wrong way round
        ("couldnt've", "couldn't've"),
        ("yall'd've", "y'all'd've"),
        ("a\u2028b\x85c", "b c"),  # every Unicode space parts words; the article goes
        ("?!", ""),
    ],
)
def test_vqa_normalization(raw: str, normal: str) -> None:
    assert normalize_vqa(raw) == normal


def test_at_most_32_periods_are_removed() -> None:
    assert normalize_vqa("." * 40 + "x") == "." * 8 + "x"


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("it is on the left", "left"),  # "the" went as an article; then "it is ", then "on "
        ("in the kitchen in the house", "house"),  # after the *last* occurrence
        ("very very big", "big"),
        ("I don't know.", "unanswerable"),
        ("", "unanswerable"),
        ("nope", "no"),
        ("A", "unanswerable"),  # nothing is left once the article went
        ("this is a very red car", "red car"),  # phrases go in the list's order: "this is", then "very"
        ("in very deep water", "very deep water"),  # "very" had its turn before "in"
    ],
)
def test_lavit_normalization(raw: str, normal: str) -> None:
    assert normalize_lavit(raw) == normal

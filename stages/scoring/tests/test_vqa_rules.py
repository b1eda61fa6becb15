"""Every quirk of the official VQA scripts with the number it gives, and the scripts' own loop as plain reference."""

import random
import re
from collections.abc import Callable

import pytest
from lavit_scoring.metrics.answer_normalization import (
    CONTRACTIONS,
    MARKS,
    NUMBERS,
    normalize_lavit,
    normalize_vqa,
    one_line,
    plain_words,
)
from lavit_scoring.metrics.average_precision import average_precision, f1_score
from lavit_scoring.metrics.lemmas import by_rules
from lavit_scoring.metrics.vqa_accuracy import agreement, lavit_accuracy, official_accuracy, vizwiz_accuracy


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
def test_official_normalisation(raw: str, normal: str) -> None:
    assert normalize_vqa(raw) == normal


def test_at_most_32_periods_are_removed() -> None:
    assert normalize_vqa("." * 40 + "x") == "." * 8 + "x"


@pytest.mark.parametrize(
    ("matching", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)]
)
def test_leave_one_out_mean(matching: int, expected: float) -> None:
    truths = ["cat"] * matching + [f"dog {n}" for n in range(10 - matching)]
    assert official_accuracy("cat", truths) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("answer", "truths", "records", "expected"),
    [
        ("Yes", ["yes"] * 10, None, 0.0),  # unanimous: nothing is normalised
        ("yes", ["yes"] * 10, None, 1.0),
        ("Yes", ["yes"] * 9 + ["no"], None, 1.0),  # not unanimous: everything is
        ("\tyes\n", ["yes"] * 10, None, 1.0),  # newline and tab become spaces before that
        ("", ["?"] * 4 + ["red"] * 6, None, 1.0),  # empty matches what becomes empty
        ("", ["red"] * 9 + ["a"], None, 0.3),
        ("cat", ["cat"] * 10, ["yes"] * 10, 0.0),  # equal records without answer_id: all left out at once
        ("cat", ["cat"] * 10, ["yes"] * 4 + ["maybe"] * 6, 1.0),
        ("cat", ["cat"] * 3 + ["dog"] * 7, ["yes"] * 10, 0.7),  # three equal ones left out together, thrice
    ],
)
def test_official_quirks(answer: str, truths: list[str], records: list[str] | None, expected: float) -> None:
    assert official_accuracy(answer, truths, records) == pytest.approx(expected, abs=1e-12)


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
def test_lavit_normalisation(raw: str, normal: str) -> None:
    assert normalize_lavit(raw) == normal


def test_lavit_normalises_the_answer_even_against_unanimous_truths() -> None:
    assert lavit_accuracy("Yes", ["yes"] * 10) == 1.0
    assert lavit_accuracy("yes", ["Yes"] * 10) == 0.0  # the truths are then left as they are
    # Punctuation and case of the truths only, no digits and articles: "two" stays, the answer's becomes "2".
    assert lavit_accuracy("two", ["two"] * 9 + ["3"]) == 0.0


def test_vizwiz_never_touches_the_truth_and_counts_people_by_place() -> None:
    assert vizwiz_accuracy("cat", ["cat"] * 10) == 1.0
    assert vizwiz_accuracy("the cat", ["the cat"] * 10) == 0.0
    assert vizwiz_accuracy("Cat.", ["cat"] * 3 + ["dog"] * 7) == pytest.approx(0.9)
    # Its table has typographic apostrophes: "dont" becomes a word that nobody typed.
    assert vizwiz_accuracy("dont", ["don't"] * 10) == 0.0
    assert vizwiz_accuracy("dont", ["don\u2019t"] * 10) == 1.0
    assert vizwiz_accuracy("cant", ["can't"] * 10) == 1.0  # one of eight entries with a straight one


def literal(answer: str, records: list[dict], punctuation: Callable[[str], str], digits: Callable[[str], str]) -> float:
    """The official loop word for word: records are dicts, compared as a whole after their answer was changed."""
    records = [{**one, "answer": one_line(one["answer"])} for one in records]
    said = one_line(answer)
    if len({one["answer"] for one in records}) > 1:
        records = [{**one, "answer": digits(punctuation(one["answer"]))} for one in records]
        said = digits(punctuation(said))
    parts = []
    for left_out in records:
        others = [one for one in records if one != left_out]
        parts.append(min(1, len([one for one in others if one["answer"] == said]) / 3))
    return sum(parts) / len(parts)


def plain_punctuation(text: str) -> str:
    out = text
    for mark in MARKS:
        touches = mark + " " in text or " " + mark in text or re.search(r"(\d)(,)(\d)", text) is not None
        out = out.replace(mark, "" if touches else " ")
    return re.sub(r"(?!<=\d)(\.)(?!\d)", "", out, count=int(re.UNICODE))


def test_against_the_official_loop() -> None:
    rng = random.Random(0)
    pieces = [
        "yes",
        "No",
        "two",
        "a",
        "the",
        "t-shirt",
        "1,000",
        "U.S.",
        "-5",
        "dont",
        "somebody'd",
        "",
        "\n",
        "?",
        ".",
    ]

    def draw() -> str:
        return rng.choice(["", " ", ",", "-"]).join(rng.choices(pieces, k=rng.randint(0, 4)))

    for _ in range(4000):
        pool = [draw() for _ in range(3)]
        records = [{"answer": rng.choice(pool), "answer_confidence": rng.choice(["yes", "maybe"])} for _ in range(10)]
        others = [one["answer_confidence"] for one in records]
        if numbered := rng.random() < 0.5:
            records = [{**one, "answer_id": n} for n, one in enumerate(records)]
        answer = rng.choice([*pool, draw()])
        expected = literal(
            answer,
            records,
            plain_punctuation,
            lambda text: plain_words(text, NUMBERS, CONTRACTIONS),
        )
        found = official_accuracy(answer, [one["answer"] for one in records], None if numbered else others)
        assert found == expected, (answer, records)


def test_agreement_without_records_counts_people_not_content() -> None:
    assert agreement("x", ["x"] * 10) == 1.0
    assert agreement("x", ["x"] * 10, list(range(10))) == 1.0


def test_average_precision_and_f1() -> None:
    import numpy as np

    positives = np.array([True, False, True, False])
    # Ranked T F T F: precision 1 at recall 1/2, 2/3 at recall 1.
    assert average_precision(positives, np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # All scores equal are one threshold: the share of positives.
    assert average_precision(positives, np.full(4, 0.5)) == pytest.approx(0.5)
    assert f1_score(positives, np.array([True, True, False, False])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no positive example"):
        average_precision(np.zeros(3, dtype=bool), np.zeros(3))


@pytest.mark.parametrize(
    ("answer", "lemmas"),
    [
        ("dogs", "dog"),
        ("skateboarding", "skateboard"),
        ("Two men riding", "two man ride"),
        ("running", "run"),
        ("glass", "glass"),
        ("tennis", "tennis"),
        ("building", "building"),
        ("berries", "berry"),
        ("boxes", "box"),
        ("shoes", "shoe"),
        ("parked", "park"),
        ("red bus", "red bus"),
        ("10", "10"),
    ],
)
def test_lemmas_by_rule(answer: str, lemmas: str) -> None:
    assert by_rules(answer) == lemmas

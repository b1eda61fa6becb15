"""Accuracy of one answer by hand, and the official scripts' own loop as plain reference."""

import random
import re
from collections.abc import Callable

import pytest
from lavit_scoring.metrics.answer_normalization import (
    CONTRACTIONS,
    MARKS,
    NUMBERS,
    one_line,
    plain_words,
)
from lavit_scoring.metrics.vqa_accuracy import agreement, lavit_accuracy, official_accuracy, vizwiz_accuracy


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


def test_lavit_normalizes_the_answer_even_against_unanimous_truths() -> None:
    assert lavit_accuracy("Yes", ["yes"] * 10) == 1.0
    assert lavit_accuracy("yes", ["Yes"] * 10) == 0.0  # the truths are then left as they are
    # Punctuation and case of the truths only, no digits and articles: "two" stays, the answer's becomes "2".
    assert lavit_accuracy("two", ["two"] * 9 + ["3"]) == 0.0


def test_vizwiz_never_touches_the_truth_and_counts_people_by_position() -> None:
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

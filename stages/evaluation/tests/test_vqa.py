"""Answers compared word for word, and majority answers."""

import pytest
from lavit_evaluation.shapes.vqa import (
    Asked,
    above,
    is_right,
    majority_leave_one_out,
    majority_of_training,
    score_answers,
)


def asked(kind: str, expected: str, combination: str = "seen") -> Asked:
    return Asked(question_id=0, key="a", question="?", expected=expected, kind=kind, combination=combination)


def test_answers_are_compared_word_for_word() -> None:
    assert is_right(" Top  Left.", "top left")
    assert not is_right("left", "top left")
    rows = [asked("colour", "red"), asked("colour", "blue", "unseen"), asked("count", "two")]
    metrics = score_answers("questions", rows, ["red", "red", "two"])
    assert metrics["questions.all"].value == pytest.approx(2 / 3)
    assert metrics["questions.kind.colour"].value == 0.5
    assert metrics["questions.kind.colour.unseen"].value == 0.0
    assert above(rows, ["red", "red", "two"], ["red", "blue", "one"]).value == 0.0


def test_majority_leaves_the_question_itself_out() -> None:
    rows = [asked("count", "one"), asked("count", "two"), asked("count", "two"), asked("shape", "circle")]
    assert majority_leave_one_out(rows) == ["two", "one", "one", ""]
    assert majority_of_training(rows, [("count", "One"), ("count", "one"), ("count", "two")]) == [
        "one",
        "one",
        "one",
        "",
    ]

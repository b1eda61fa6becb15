"""POPE by hand, by its own script's rules and by those of lmms-eval."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.errors import InputError, UsageError

LABELS = {1: "yes", 2: "no", 3: "yes", 4: "no", 5: "yes", 6: "no"}
REPLIES = {1: "Yes.", 2: "yes", 3: "No, there isn't", 4: "no", 5: "maybe", 6: "NO"}
QUESTIONS = [
    {"question_id": name, "image": f"{(name - 1) // 2}.jpg", "text": "Is there a dog?", "label": label}
    for name, label in LABELS.items()
]


def said(replies: dict[int, str], key: str = "answer") -> list[dict[str, Any]]:
    return [{"question_id": name, key: text} for name, text in replies.items()]


def values(result: dict[str, Any]) -> dict[str, float]:
    return {name: metric["value"] for name, metric in result["figures"].items()}


def test_the_official_script(score: Callable[..., dict[str, Any]]) -> None:
    result = score("pope-random", said(REPLIES), QUESTIONS)
    # Read as yes yes no no yes yes against yes no yes no yes no: TP 1 5, FP 2 6, FN 3, TN 4.
    assert result["notes"]["counts"] == {"tp": 2, "fp": 2, "fn": 1, "tn": 1, "other": 0}
    assert values(result) == {
        "accuracy": 50.0, "precision": 50.0, "recall": 66.67, "f1": 57.14, "yes_ratio": 66.67
    }  # fmt: skip
    assert result["notes"]["replies_without_yes_or_no"] == "1 of 6, counted as yes"
    assert (result["complete"], result["protocol"]["name"]) == (True, "official")
    for metric in result["figures"].values():
        assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 100


def test_the_harness(score: Callable[..., dict[str, Any]]) -> None:
    result = score("pope-popular", said(REPLIES), QUESTIONS, protocol="lmms-eval")
    # Only `yes` (2), `no` (4) and `NO` (6) are read: TP 0, FP 1, TN 2; no yes question counts for recall.
    assert result["notes"]["counts"] == {"tp": 0, "fp": 1, "fn": 0, "tn": 2, "other": 3}
    assert values(result) == {"accuracy": 33.33, "precision": 0.0, "recall": 0.0, "f1": 0.0, "yes_ratio": 50.0}
    assert "same for every model" in result["notes"]["yes_ratio"]
    result = score("pope-popular", said({**REPLIES, 1: "Yes", 3: "no"}), QUESTIONS, protocol="lmms-eval")
    # TP 1, FP 2, FN 3, TN 4 6; 5 is wrong for accuracy and absent from recall.
    assert values(result) == {"accuracy": 50.0, "precision": 50.0, "recall": 50.0, "f1": 50.0, "yes_ratio": 50.0}


def test_a_model_that_never_says_yes_has_no_precision(score: Callable[..., dict[str, Any]]) -> None:
    never = said(dict.fromkeys(LABELS, "no"))
    result = score("pope-adversarial", never, QUESTIONS)
    assert values(result) == {"accuracy": 50.0, "recall": 0.0, "yes_ratio": 0.0}
    assert result["skipped"].keys() == {"precision", "f1"}
    assert "divides by zero" in result["skipped"]["precision"]
    assert values(score("pope-adversarial", never, QUESTIONS, protocol="lmms-eval"))["precision"] == 0.0


def test_official_files_have_one_question_a_line(tmp_path: Path, score: Callable[..., dict[str, Any]]) -> None:
    file = tmp_path / "coco_pope_random.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    assert values(score("pope-random", said(REPLIES, "text"), None, file=file))["f1"] == 57.14


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "maybe"}, "label of question 1 is \"maybe\", expected yes or no"),
        ({"question_id": 2}, "question_id 2 occurs twice; score POPE's three files one by one"),
        ({"image": ["a.jpg"]}, r'image of question 1 is \["a.jpg"\], expected a file name'),
    ],
)  # fmt: skip
def test_damaged_questions(score: Callable[..., dict[str, Any]], change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score("pope-random", said(REPLIES), [{**QUESTIONS[0], **change}, *QUESTIONS[1:]])


def test_missing_replies_and_other_protocols_are_refused(score: Callable[..., dict[str, Any]]) -> None:
    some = said({name: text for name, text in REPLIES.items() if name < 4})
    with pytest.raises(InputError, match="3 of 6 questions have no result"):
        score("pope-random", some, QUESTIONS)
    assert not score("pope-random", some, QUESTIONS, partial=True)["complete"]
    with pytest.raises(InputError, match="expected question_id"):
        score("pope-random", [{"answer": "yes"}], QUESTIONS)
    with pytest.raises(UsageError, match="--protocol lavit: not one of pope-random, expected one of official, lmms-ev"):
        score("pope-random", some, QUESTIONS, protocol="lavit")

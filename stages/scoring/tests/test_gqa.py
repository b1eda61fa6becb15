"""GQA by hand: every metric of the official script that a result file allows."""

from collections.abc import Callable
from typing import Any

import pytest
from lavit_scoring.errors import InputError

GQA = {
    "1": {"question": "Is it red?", "imageId": "a", "answer": "yes", "isBalanced": True, "entailed": ["2"],
          "types": {"structural": "verify", "semantic": "attr", "detailed": "x"}, "groups": {"global": None},
          "semantic": [{"operation": "select", "argument": "car"}, {"operation": "exist", "argument": "?"}]},
    "2": {"question": "What color is it?", "imageId": "a", "answer": "red", "isBalanced": True, "entailed": [],
          "types": {"structural": "query", "semantic": "attr", "detailed": "x"}, "groups": {"global": "color"},
          "semantic": [{"operation": "select", "argument": "car"}]},
    "3": {"question": "What color is that?", "imageId": "b", "answer": "blue", "isBalanced": True, "entailed": [],
          "types": {"structural": "query", "semantic": "attr", "detailed": "Common"}, "groups": {"global": "color"},
          "semantic": [{"operation": "select", "argument": "car"}]},
    "4": {"question": "Left out", "imageId": "b", "answer": "no", "isBalanced": False},
}  # fmt: skip


def test_gqa(score: Callable[..., dict[str, Any]]) -> None:
    said = [{"questionId": name, "prediction": text} for name, text in {"1": "yes", "2": "red", "3": "Red"}.items()]
    said.append({"questionId": "77", "prediction": "another split's"})
    choices = {name: {"valid": ["yes", "red"], "plausible": ["red"]} for name in "123"}
    result = score("gqa", said, GQA, choices=choices)
    values = {name: metric["value"] for name, metric in result["figures"].items()}
    assert (values["accuracy"], values["accuracy.binary"], values["accuracy.open"]) == (66.67, 100.0, 50.0)
    assert values["accuracy.steps.01"] == 66.67  # "exist" is no step
    assert values["consistency"] == 100.0
    # A "Common" question is answered by color, material or shape whatever its choices say.
    assert (values["validity"], values["plausibility"]) == (66.67, 33.33)
    # Group color: gold red 1, blue 1; said red 1, Red 1: (0 + 1) x 2 / 2 / 100, two decimals.
    assert values["distribution"] == 0.01
    assert result["notes"]["ignored_extra_results"] == 1
    assert "attention maps" in result["skipped"]["grounding"]
    result = score("gqa", said, GQA, protocol="lavit", lemmatizer="given")
    assert result["figures"]["accuracy"]["value"] == 66.67
    assert "consistency" not in result["figures"]
    assert "validity" in score("gqa", said, GQA)["skipped"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("imageId", ["a"]),
        ("types", ["query"]),
        ("types", {"detailed": ["x"]}),
        ("groups", {"global": ["color"]}),
        ("semantic", [{"operation": "select"}]),
        ("entailed", "2"),
    ],
)
def test_a_damaged_question_is_named(score: Callable[..., dict[str, Any]], column: str, value: Any) -> None:
    said = [{"questionId": name, "prediction": "yes"} for name in "123"]
    with pytest.raises(InputError, match=f"annotations.json: {column} of question '1' is .*, expected a"):
        score("gqa", said, {**GQA, "1": {**GQA["1"], column: value}})

"""Scores side by side: differences first, paired differences only where examples are the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.compare import compare
from lavit_scoring.errors import InputError, UsageError
from lavit_scoring.show import show_comparison


def score(folder: Path, values: list[float], **changes: Any) -> Path:
    folder.mkdir(parents=True)
    value = sum(values) / len(values)
    content = {
        "benchmark": "vqav2",
        "protocol": {"name": "official", "version": 1},
        "figures": {"accuracy": {"value": 100 * value, "count": len(values), "low": 0.0, "high": 100.0}},
        "lemmatizer": None,
        "complete": True,
        "items": {"digest": "a" * 64},
        "inputs": {"annotations": "b" * 64},
        "generation": {"decoding": "greedy, at most 10 tokens", "prompt": "p"},
        "published": {"figures": "accuracy 66.0 / 68.2 / 68.3", "by": "LaVIT's authors, not measured here"},
        **changes,
    }
    (folder / "score.json").write_text(json.dumps(content))
    rows = "".join(json.dumps({"id": n, "accuracy": one}) + "\n" for n, one in enumerate(values))
    (folder / "items.jsonl").write_text(rows)
    return folder


def run(*paths: Path) -> dict[str, Any]:
    return compare(paths)


def test_paired_differences_of_comparable_scores(tmp_path: Path) -> None:
    one = score(tmp_path / "one", [0.0, 1.0] * 50)
    two = score(tmp_path / "two", [0.3, 1.0] * 50)
    result = run(one, two / "score.json")
    assert result["not_comparable"] == result["made_differently"] == []
    assert [metric["value"] for metric in result["figures"]["accuracy"]] == pytest.approx([50.0, 65.0])
    (paired,) = result["paired"]["accuracy"]
    assert paired["value"] == pytest.approx(0.15)
    # Item by item the interval is ten times narrower than that of either score.
    assert 0.10 < paired["low"] < 0.15 < paired["high"] < 0.20


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"protocol": {"name": "lavit", "version": 1}}, "the protocol: official | lavit"),
        ({"benchmark": "okvqa"}, "the benchmark: vqav2 | okvqa"),
        ({"items": {"digest": "c" * 64}}, f"the examples scored (SHA-256 of their ids): {'a' * 16} | {'c' * 16}"),
        ({"complete": False}, "whether everything was scored: true | false"),
        ({"lemmatizer": "rules-1"}, "the lemmatizer: not recorded | rules-1"),
    ],
)
def test_what_keeps_scores_apart_is_named(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    one, two = score(tmp_path / "one", [1.0]), score(tmp_path / "two", [0.5], **changes)
    result = run(one, two)
    assert result["not_comparable"] == [line]
    assert result["paired"] == {}
    shown = show_comparison(run(one, two))
    assert shown.startswith(f"NOT COMPARABLE, {line}")


def test_other_decoding_is_told_not_forbidden(tmp_path: Path) -> None:
    one = score(tmp_path / "one", [1.0])
    two = score(tmp_path / "two", [0.5], generation={"decoding": "beam 5", "prompt": "p"})
    three = score(tmp_path / "three", [0.5], generation="not known")
    assert run(one, two)["made_differently"] == ["the decoding: greedy, at most 10 tokens | beam 5"]
    assert run(one, two)["paired"]["accuracy"][0]["value"] == -0.5
    four = score(tmp_path / "four", [0.5], generation={"draw": {"num_steps": 50}, "best_of": 1})
    five = score(tmp_path / "five", [0.5], generation={"draw": {"num_steps": 25}, "best_of": 4})
    assert run(four, five)["made_differently"] == [
        'how pixels are drawn: {"num_steps": 50} | {"num_steps": 25}',
        "how many candidates are drawn: 1 | 4",
    ]
    assert run(one, three)["made_differently"] == ["how some of the answers were made is not known"]
    shown = show_comparison(run(one, two))
    assert "not measured here; LaVIT's authors: accuracy 66.0 / 68.2 / 68.3" in shown
    assert "[2] - [1], item by item, accuracy (0 to 1): -0.5000" in shown


def test_partial_scores_are_named_though_both_are(tmp_path: Path) -> None:
    accuracy = {"accuracy": {"value": 50.0, "count": 2, "low": 0.0, "high": 100.0}}
    partial = {"complete": False, "figures": {}, "partial": {"scored": 2, "expected": 1500, "figures": accuracy}}
    one, two = (score(tmp_path / name, [0.0, 1.0], **partial) for name in ("one", "two"))
    result = run(one, two)
    assert result["partial"] == [f"{path}: 2 of 1,500 items" for path in (one, two)]
    assert show_comparison(result).splitlines()[:2] == [f"PARTIAL: {line}" for line in result["partial"]]
    assert run(score(tmp_path / "whole", [1.0]), two)["partial"] == result["partial"][1:]


def test_the_cider_of_an_image_runs_from_0_to_10(tmp_path: Path) -> None:
    paths = [score(tmp_path / name, [0.0, 1.0]) for name in ("one", "two")]
    for path in paths:
        file = path / "items.jsonl"
        file.write_text(file.read_text().replace("accuracy", "cider"))
    assert "[2] - [1], item by item, cider (0 to 10): +0.0000" in show_comparison(run(*paths))


def test_tokenizers_on_images_that_nobody_recorded_are_not_compared(tmp_path: Path) -> None:
    protocol = {"protocol": {"name": "lavit-tokenizer", "version": 1}}
    old, older = (score(tmp_path / name, [1.0], **protocol) for name in ("old", "older"))
    result = run(old, older)
    assert result["not_comparable"] == [
        f"the images measured: {path}: reference not recorded" for path in (old, older)
    ]  # fmt: skip
    assert result["paired"] == {}


def test_tokenizers_on_other_images_are_refused_with_both_in_one_order(tmp_path: Path) -> None:
    one, two = (
        score(tmp_path / letter, [1.0], protocol={"name": "lavit-tokenizer", "version": 1},
              reference={"digest": letter * 64, "images": images, "reconstructions": 1})
        for letter, images in (("a", 5), ("b", 7))
    )  # fmt: skip
    words = f"b: measured on other images than .*a .SHA-256 {'b' * 16} and {'a' * 16}; 7 .1 drawn. and 5 .1 drawn."
    with pytest.raises(InputError, match=words):
        run(one, two)


def test_a_quickstart_s_folder_is_its_evaluation_s(tmp_path: Path) -> None:
    one = score(tmp_path / "one", [0.0, 1.0])
    score(tmp_path / "run" / "evaluation", [1.0, 1.0])
    result = run(one, tmp_path / "run")
    assert result["paired"]["accuracy"][0]["value"] == pytest.approx(0.5)


def test_wrong_input(tmp_path: Path) -> None:
    one = score(tmp_path / "one", [1.0])
    with pytest.raises(UsageError, match="1 score, expected two or more"):
        run(one)
    with pytest.raises(InputError, match="file not found"):
        run(one, tmp_path / "none")
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(InputError, match="no metrics in it"):
        run(one, tmp_path / "bad.json")


def test_a_fid_score_of_an_earlier_release_is_one(tmp_path: Path) -> None:
    one, two = (score(tmp_path / name, [0.5], benchmark=name) for name in ("coco-fid", "fid"))
    for folder in (one, two):
        content = json.loads((folder / "score.json").read_text())
        del content["items"]
        (folder / "score.json").write_text(json.dumps(content))
    assert run(one, two)["not_comparable"] == []

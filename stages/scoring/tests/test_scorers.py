"""What cannot be scored is reported before any file is read."""

import json
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.catalogue import find_benchmark
from lavit_scoring.errors import InputError, ScoringError, UsageError
from lavit_scoring.scorers import check, score_file, write_score
from lavit_scoring.task import ScoringResult, ScoringTask


@pytest.mark.parametrize(
    ("name", "options", "kind", "words"),
    [
        ("vqav3", {}, UsageError, "no such benchmark, expected one of vqav2, okvqa"),
        ("vqav2", {"protocol": "mine"}, UsageError, "expected one of official, lavit"),
        ("vqav2", {"java": True}, UsageError, "METEOR and SPICE belong to captions"),
        ("vqav2", {"choices": Path("c")}, UsageError, "GQA has"),
        ("vqav2", {"split": "test"}, UsageError, "splits in files of their own"),
        ("vqav2", {}, InputError, "file not found, expected a file"),
        ("magicbrush", {}, UsageError, "edited images are scored by lavit-evaluation"),
    ],
)
def test_what_cannot_be_scored_is_reported_first(
    tmp_path: Path, name: str, options: dict[str, Any], kind: type[ScoringError], words: str
) -> None:
    nothing = tmp_path / "none.json"
    with pytest.raises(kind, match=words):
        score_file(find_benchmark(name), ScoringTask(results=nothing, annotations=nothing, **options))


def test_a_scorer_of_another_package_checks_and_writes(tmp_path: Path) -> None:
    (tmp_path / "sessions.json").write_text("{}")
    benchmark, task = (
        find_benchmark("magicbrush"),
        ScoringTask(results=tmp_path, annotations=tmp_path / "sessions.json"),
    )
    check(benchmark, task)  # edited images are a folder
    found = ScoringResult(
        ids=["a"], expected=1, unit="1", metrics={}, items={"l1": [0.5]}, inputs={"results": "0"}, seconds=2.0
    )
    content = write_score(benchmark, task, found, tmp_path / "out")
    assert (content["complete"], content["seconds"], content["inputs"]["results"]) == (True, {"score": 2.0}, "0")
    assert json.loads((tmp_path / "out" / "score.json").read_text()) == content
    assert (tmp_path / "out" / "items.jsonl").read_text() == '{"id": "a", "l1": 0.5}\n'

"""What cannot be scored is reported before any file is read."""

from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.catalogue import find_benchmark
from lavit_scoring.errors import InputError, ScoringError, UsageError
from lavit_scoring.score_file import score_file
from lavit_scoring.task import ScoringTask


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


def test_edited_images_need_a_scorer_and_may_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sessions.json").write_text("{}")
    task = ScoringTask(results=tmp_path, annotations=tmp_path / "sessions.json")

    def scorer(given: ScoringTask) -> Any:
        raise RuntimeError(f"called with {given.results}")

    with pytest.raises(RuntimeError, match="called with"):
        score_file(find_benchmark("magicbrush"), task, scorer=scorer)

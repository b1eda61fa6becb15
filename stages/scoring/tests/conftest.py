"""Scores of contents that are written to files as they would be downloaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.catalogue import find_benchmark
from lavit_scoring.scorers import score_file
from lavit_scoring.task import ScoringTask


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Give a function that writes JSON content under a name."""

    def write(name: str, content: Any) -> Path:
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def score(put: Callable[[str, Any], Path]) -> Callable[..., dict[str, Any]]:
    """Give a function that scores contents, `questions` and `choices` too; `file` is a file of annotations."""

    def run(benchmark: str, results: Any, annotations: Any, out: Path | None = None, **options: Any) -> dict[str, Any]:
        files = {name: put(f"{name}.json", options.pop(name)) for name in ("questions", "choices") if name in options}
        truth = options.pop("file", None) or put("annotations.json", annotations)
        task = ScoringTask(results=put("results.json", results), annotations=truth, **files, **options)
        return score_file(find_benchmark(benchmark), task, out)

    return run

"""Scores of result files by the official rules of their benchmarks, with numpy alone. Importing it is light.

- `scorers`: one result file against the official answers; `catalogue` lists the benchmarks.
- `vqa`, `vizwiz`, `gqa`, `captions`: the rules and file layouts of each benchmark.
- `metrics`: plain functions on strings and arrays; answers are normalized in `metrics.answer_normalization`.
- `estimate`, `bootstrap`: values with 95 % intervals. `compare`: what keeps two scores from being compared.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lavit_scoring.catalogue import BENCHMARKS, Benchmark, find_benchmark

if TYPE_CHECKING:
    from lavit_scoring.estimate import Estimate
    from lavit_scoring.scorers import score_file, score_results, write_score
    from lavit_scoring.task import ScoringResult, ScoringTask

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Estimate",
    "ScoringResult",
    "ScoringTask",
    "find_benchmark",
    "score_file",
    "score_results",
    "write_score",
]

LATER = {
    "Estimate": "estimate",
    "ScoringResult": "task",
    "ScoringTask": "task",
    "score_file": "scorers",
    "score_results": "scorers",
    "write_score": "scorers",
}
"""Names that are imported with numpy, when they are first used."""


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module 'lavit_scoring' has no attribute {name!r}")
    return getattr(import_module(f"lavit_scoring.{LATER[name]}"), name)

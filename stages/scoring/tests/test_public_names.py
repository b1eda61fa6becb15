"""What users import from `lavit_scoring` is a promise: a change of a name or a signature must be made here too."""

import inspect
import subprocess
import sys

import lavit_scoring
import pytest

NAMES = [
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

SIGNATURES = {
    "find_benchmark": ["name"],
    "score_file": ["benchmark", "task", "out"],
    "score_results": ["benchmark", "task"],
    "write_score": ["benchmark", "task", "result", "out"],
}


def test_the_public_names() -> None:
    assert lavit_scoring.__all__ == NAMES
    assert all(hasattr(lavit_scoring, name) for name in NAMES)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lavit_scoring.nothing  # noqa: B018


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signatures(name: str) -> None:
    assert list(inspect.signature(getattr(lavit_scoring, name)).parameters) == SIGNATURES[name]


def test_the_import_is_light() -> None:
    program = "import sys, lavit_scoring; assert lavit_scoring.BENCHMARKS; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)

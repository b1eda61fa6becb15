"""What a benchmark stores: one schema for CPU and GPU."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError

FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it was measured."""

    processor: str
    cores: int
    """Cores that this process may use."""
    device: str
    """Name of the device that did the work."""
    threads: int
    load: float | None
    """Load average of the last minute when the run began; None where the system has none."""
    versions: dict[str, str]
    matmul: dict[str, float]
    """Operations a second (of one CPU second) of the calibrating matrix product, by precision and kernel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmCost:
    """Cost of one call of an arm: medians over the pairs."""

    name: str
    seconds: float
    """CPU seconds on a CPU, seconds between events on a GPU."""
    wall: float
    rate: float
    """Units a second of `seconds`."""
    peak_bytes: int | None
    """Most memory above what was held before the call; None where another process does the work."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times the baseline's time our arm's is contained in, over the pairs."""

    median: float
    low: float
    """5th percentile."""
    least: float
    most: float
    pairs: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One comparison, measured."""

    workload: str
    name: str
    size: str
    dtype: str
    unit: str
    amount: float
    equal: str
    """How near the outputs of both arms were."""
    baseline: ArmCost
    ours: ArmCost
    ratio: Ratio
    goal: float | None
    roofline: float | None
    """Our arm's operations a second over those of the calibrating product in the same pairs (median)."""
    curve: str | None
    at: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the 5th percentile reaches the goal; None without one."""
        return None if self.goal is None else self.ratio.low >= self.goal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slope:
    """Exponent of a power law seconds = c * size^slope through the points of a curve (least squares of logarithms)."""

    workload: str
    curve: str
    dtype: str
    sizes: list[float]
    baseline: float
    ours: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Omission:
    """A comparison that could not be made on this machine."""

    workload: str
    name: str
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchResult:
    """Everything a run of `lavit bench` found out."""

    date: str
    command: str
    seed: int
    machine: Machine
    records: list[Record]
    slopes: list[Slope]
    omissions: list[Omission]

    def as_json(self) -> dict[str, Any]:
        """Return plain values, `format` first."""
        return {"format": FORMAT, **dataclasses.asdict(self)}


def read_result(file: Path) -> BenchResult:
    """Return a stored result. Raises InputError if the file is not a result."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored.pop("format") != FORMAT:
            raise ValueError("another format")
        return _result(stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: not a result of `lavit bench --out` ({error})") from None


def _result(stored: Mapping[str, Any]) -> BenchResult:
    records = [
        Record(
            **{
                **row,
                "baseline": ArmCost(**row["baseline"]),
                "ours": ArmCost(**row["ours"]),
                "ratio": Ratio(**row["ratio"]),
            }
        )
        for row in stored["records"]
    ]
    return BenchResult(
        **{
            **stored,
            "machine": Machine(**stored["machine"]),
            "records": records,
            "slopes": [Slope(**row) for row in stored["slopes"]],
            "omissions": [Omission(**row) for row in stored["omissions"]],
        }
    )

"""The terms of a benchmark: its settings, two arms that do the same work, and what makes their outputs equal."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WORKLOADS = ("tokenizer", "data", "train", "generate", "detokenizer", "serve", "scorers")
"""Names of the modules in `workloads/`, in the order in which `all` runs them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """Settings that every workload gets."""

    device: str = "cpu"
    """A torch device."""
    dtypes: tuple[str, ...] = ("fp32", "bf16")
    """Precisions to measure: `fp32`, `bf16`."""
    full: bool = False
    """Published sizes in place of small ones."""
    seed: int = 0
    """Seed of weights and inputs."""
    threads: int = 1
    """torch's threads."""
    pairs: int = 5
    """Pairs of timings a comparison."""
    official: Path | None = None
    """A clone of the released code, one more baseline where it is given."""
    speeds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Operations a second of this machine's matrix products: `fp32 torch`, `fp32 oneDNN`, `bf16`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to do the work."""

    name: str
    run: Callable[[], Any]
    """Does the work once and returns its outputs; called many times."""
    clock: Callable[[], float] | None = None
    """CPU seconds taken so far, where another process does the work."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two arms, and how their outputs are held equal before either is timed."""

    name: str
    size: str
    """The sizes in words, say `width 1408, 2 blocks, 8 images`."""
    dtype: str
    """Precision of our arm."""
    baseline: Arm
    ours: Arm
    equal: Callable[[Any, Any], str]
    """Gets both outputs, returns how near they are, and raises Unequal."""
    unit: str
    amount: float
    """Units that one call does."""
    flops: float | None = None
    """Operations that one call needs at least, where that is known: for the share of the roofline."""
    goal: float | None = None
    """The 5th percentile of the ratios is to reach this; None where there is no goal."""
    curve: str | None = None
    """Name that the points of one scaling curve share."""
    at: float | None = None
    """Where on the curve this point lies."""
    pairs: int | None = None
    """Pairs of timings, where not those of the settings (a call of many seconds)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Skipped:
    """A comparison that could not be made here."""

    name: str
    why: str


class Unequal(Exception):
    """The two arms did not compute the same."""


def equal_within(limit: float) -> Callable[[Any, Any], str]:
    """Return a check that two tensors differ by at most `limit`, relative in the 2-norm."""

    def check(theirs: Any, ours: Any) -> str:
        difference = float((theirs.double() - ours.double()).norm() / theirs.double().norm())
        if not difference <= limit:
            raise Unequal(f"relative difference {difference:.2g}, expected at most {limit:g}")
        return f"relative difference {difference:.1e}"

    return check


LOSS_LIMITS = {"fp32": 1e-5, "bf16": 2e-3}
"""Relative differences of a loss that sums of another order make, and in bf16 a last bit that rounds otherwise."""


def equal_losses(dtype: str) -> Callable[[Any, Any], str]:
    """Return a check that two losses, numbers or tensors of one, differ by at most what a precision makes."""

    def check(theirs: Any, ours: Any) -> str:
        difference = abs(float(ours) / float(theirs) - 1)
        if not difference <= LOSS_LIMITS[dtype]:
            raise Unequal(f"losses {float(theirs):.7f} and {float(ours):.7f}, expected within {LOSS_LIMITS[dtype]:g}")
        return f"losses differ by {difference:.0e}"

    return check


def equal_share(least: float) -> Callable[[Any, Any], str]:
    """Return a check that two integer tensors agree in at least a share `least` of their places."""

    def check(theirs: Any, ours: Any) -> str:
        if theirs.shape != ours.shape:
            raise Unequal(f"shapes {tuple(theirs.shape)} and {tuple(ours.shape)}")
        same, total = int((theirs == ours).sum()), theirs.numel()
        if same < least * total:
            raise Unequal(f"{same} of {total} are equal, expected a share of {least:g}")
        return f"{same} of {total} are equal"

    return check

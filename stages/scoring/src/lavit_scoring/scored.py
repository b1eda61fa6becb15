"""What a scorer hands back: figures, what was skipped and why, and the score of every item."""

import dataclasses
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lavit_scoring.bootstrap import interval_of_mean
from lavit_scoring.estimate import Figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What is scored against what, and by whose rules."""

    results: Path
    annotations: Path
    questions: Path | None = None
    choices: Path | None = None
    """GQA's choices file, for validity and plausibility."""
    protocol: str = "official"
    """official: the evaluation server's rules; lavit: those of LaVIT's released scripts."""
    lemmatizer: str | None = None
    split: str | None = None
    partial: bool = False
    """Whether missing results are allowed."""
    java: bool = False
    """Whether METEOR and SPICE are computed."""
    seed: int = 0


@dataclasses.dataclass(kw_only=True)
class Scored:
    """The figures of one result file."""

    ids: list[Any]
    """Every item scored, in the order of the annotations."""
    expected: int
    """How many items the annotations hold; more than `ids` when the results are partial."""
    unit: str
    """What a figure of 1 means."""
    protocol: str | None = None
    """Whose rules were followed, where the task alone does not say."""
    images: Sequence[Hashable] = ()
    """The picture of each item, where an item is not a picture: what an interval draws together."""
    items: dict[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    """Metric -> the score of each item."""
    figures: dict[str, Figure] = dataclasses.field(default_factory=dict)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    """Digests of what is no single file, by role."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What else the figures depend on."""


def percent(values: Sequence[float], clusters: Sequence[Hashable], seed: int, name: str) -> Figure:
    """Return the mean of 0-to-1 scores as the servers print it: per cent, two decimals; interval over clusters."""
    low, high = interval_of_mean(values, clusters, seed, name)
    return Figure(
        value=round(100 * float(sum(values)) / len(values), 2),
        count=len(values),
        low=round(100 * low, 2),
        high=round(100 * high, 2),
    )


def percent_by(
    name: str, values: Sequence[float], clusters: Sequence[Hashable], groups: Sequence[Hashable], seed: int
) -> dict[str, Figure]:
    """Return `name.<group>` for every group, in alphabetical order."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(str(group), []).append(index)
    return {
        f"{name}.{group}": percent([values[i] for i in here], [clusters[i] for i in here], seed, f"{name}.{group}")
        for group, here in sorted(members.items())
    }


def as_array(values: Sequence[float]) -> np.ndarray:
    """Return scores as float64 [N]."""
    return np.asarray(values, dtype=np.float64)

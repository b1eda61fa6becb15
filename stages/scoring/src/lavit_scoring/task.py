"""What a scorer hands back: metrics, what was skipped and why, and the score of every item."""

import dataclasses
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from lavit_scoring.estimate import Estimate


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoringTask:
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
    metrics: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    """Digests of what is no single file, by role."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What else the figures depend on."""

"""What is scored, and what a scorer returns."""

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
    """official: the evaluation server's rules; lavit: those of LaVIT's released scripts; lmms-eval, llava, vlmevalkit:
    those of that harness; corrected (DPG-Bench): without the faults of the official script."""
    lemmatizer: str | None = None
    """With lavit: given, rules, or a spaCy model directory."""
    split: str | None = None
    """Split of a Karpathy file."""
    partial: bool = False
    """Whether missing results are allowed."""
    java: bool = False
    """Whether METEOR and SPICE are computed."""
    judge: str | None = None
    """Who judged generated images, which result files don't say."""
    seed: int = 0
    """Seed of the bootstrap."""


@dataclasses.dataclass(kw_only=True)
class ScoringResult:
    """The metrics of one result file."""

    ids: list[Any]
    """Every item scored, in the order of the annotations."""
    expected: int
    """How many items the annotations contain; more than `ids` if the results are partial."""
    unit: str
    """What a metric of 1 means."""
    metrics: dict[str, Estimate]
    protocol: str | None = None
    """Whose rules were followed, where the task alone does not determine them."""
    images: Sequence[Hashable] = ()
    """The image of each item, where an item is not an image: an interval draws items of one image together."""
    items: dict[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    """Metric -> the score of each item."""
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    """Metric -> why it was not computed."""
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What a reader of the metrics needs to know."""
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    """Digests of inputs that are not single files, by role."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What else the metrics depend on."""
    seconds: float = 0.0
    """How long scoring took."""


UNKNOWN_WORDS = "not known: a result file does not hold the words that were drawn"


def judge_of(task: ScoringTask) -> str:
    """Return who judged, as far as it was told."""
    return task.judge or "not known: a result file does not name it (--judge NAME)"

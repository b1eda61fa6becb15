"""How a benchmark is computed: the part of a command line that changes no score."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How a benchmark is computed. A resumed run may change all but the precision, which belongs to its settings."""

    batch_size: int = 32
    """Items handled at once."""
    device: str = "auto"
    precision: str = "auto"
    """Of the model's weights; a benchmark that runs a model records it."""
    quiet: bool = False

"""Which model was evaluated: the digest of each of its parts."""

from pathlib import Path
from typing import TYPE_CHECKING

from lavit_core.modeldir import MADE_BY, recorded_digest

if TYPE_CHECKING:
    from lavit import LaVIT


def model_digests(model: "Path | LaVIT") -> dict[str, str]:
    """Return the digest of each part that a model directory, or an open model, holds."""
    if isinstance(model, Path):
        return {part: recorded_digest(model, part) for part in MADE_BY if (model / part).is_dir()}
    return dict(model.metadata["model"])

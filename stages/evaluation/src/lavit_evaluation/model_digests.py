"""Which model was evaluated: the digest of each of its parts."""

from pathlib import Path

from lavit_core.modeldir import MADE_BY, recorded_digest


def model_digests(model: Path) -> dict[str, str]:
    """Return the digest of each part that a model directory holds."""
    return {part: recorded_digest(model, part) for part in MADE_BY if (model / part).is_dir()}

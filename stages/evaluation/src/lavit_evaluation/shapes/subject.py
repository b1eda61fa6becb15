"""The model under evaluation, as plain functions on numpy arrays: the scorers see no torch and no model class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What the tokenizer makes of a batch of pictures."""

    codes: list[np.ndarray]
    """Codebook indices of each picture, int64 [its count]."""
    keep_masks: np.ndarray
    """Which patches were kept, bool [B, P] in raster order."""
    errors: np.ndarray
    """1 - cosine between decoded and target feature of each patch, float [B, P]."""
    unit_target_sums: np.ndarray
    """Sum over each picture's patches of its target features scaled to length one, float [B, D]."""


def join(parts: Sequence[Encoded]) -> Encoded:
    """Return several batches as one."""
    return Encoded(
        codes=[codes for part in parts for codes in part.codes],
        keep_masks=np.concatenate([part.keep_masks for part in parts]),
        errors=np.concatenate([part.errors for part in parts]),
        unit_target_sums=np.concatenate([part.unit_target_sums for part in parts]),
    )


def select(encoded: Encoded, indices: Sequence[int]) -> Encoded:
    """Return some of the pictures, in the order asked for."""
    return Encoded(
        codes=[encoded.codes[index] for index in indices],
        keep_masks=encoded.keep_masks[indices],
        errors=encoded.errors[indices],
        unit_target_sums=encoded.unit_target_sums[indices],
    )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a model can do; None where a part is missing, and the figures that need it are then skipped."""

    image_px: int
    """Side of the pictures it reads."""
    grid: tuple[int, int] | None = None
    """Rows and columns of patches."""
    codebook_size: int | None = None
    encode: Callable[[np.ndarray], Encoded] | None = None
    """uint8 [B, px, px, 3] -> codes, masks, errors."""
    answer: Callable[[np.ndarray, Sequence[str]], list[str]] | None = None
    """Pictures and one question each -> answers."""
    answer_blind: Callable[[Sequence[str]], list[str]] | None = None
    """Questions -> answers of a model that was trained, and is asked, without pictures."""
    caption: Callable[[np.ndarray], list[str]] | None = None
    """Pictures -> captions."""
    sample: Callable[[Sequence[str], Sequence[int]], list[np.ndarray]] | None = None
    """Prompts and seeds -> codes of each."""
    draw: Callable[[Sequence[np.ndarray], Sequence[int]], np.ndarray] | None = None
    """Codes and seeds -> uint8 pictures [B, px, px, 3]."""
    read_back: Callable[[np.ndarray, Sequence[str]], np.ndarray] | None = None
    """Pictures and one text each -> log-likelihood of the text after the picture, float64 [B]."""

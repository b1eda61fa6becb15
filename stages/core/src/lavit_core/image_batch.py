"""A batch of images decoded for a job that goes on without the unreadable ones."""

import collections
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lavit_core.image_warnings import count_image_warnings
from lavit_core.images import MAX_PIXELS, ImageError, ImageFile, square_pixels

TOO_SMALL = "too small"

DecodedBatch = tuple[list[int], np.ndarray, list[dict[str, Any]], dict[str, int]]
"""Places that could be read, their pixels uint8 [b, px, px, 3], rows for errors.jsonl, warnings by kind."""


def decode_batch(
    images: Sequence[tuple[str, ImageFile]], image_px: int, *, min_pixels: int = 1, max_pixels: int = MAX_PIXELS
) -> DecodedBatch:
    """Decode (key, file) pairs into squares; what can't be read becomes a row with key, kind and reason.

    The row of a file says its size in bytes too: a repaired one is known by it (`lavit_core.data.digest_before`).
    """
    good: list[int] = []
    pixels: list[np.ndarray] = []
    errors: list[dict[str, Any]] = []
    counts: collections.Counter[str] = collections.Counter()
    with count_image_warnings(counts):
        for place, (key, file) in enumerate(images):
            try:
                pixels.append(square_pixels(file, image_px, min_pixels=min_pixels, max_pixels=max_pixels))
                good.append(place)
            except ImageError as error:
                errors.append({"key": key, "kind": error.kind, "reason": str(error), **_size(file)})
    empty = np.empty((0, image_px, image_px, 3), dtype=np.uint8)
    return good, np.stack(pixels) if pixels else empty, errors, dict(counts)


def _size(file: ImageFile) -> dict[str, int]:
    try:
        return {"bytes": os.stat(file).st_size} if isinstance(file, Path) else {}
    except OSError:
        return {}

"""A batch of images decoded for a job that goes on without the unreadable ones."""

import collections
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lavit_core.image_warnings import count_image_warnings
from lavit_core.images import MAX_PIXELS, ImageError, ImageFile, square_pixels

TOO_SMALL = "too small"


class DecodedBatch(NamedTuple):
    """What became of a batch of images."""

    good: list[int]
    """Places that could be read."""
    pixels: np.ndarray
    """Theirs, uint8 [b, px, px, 3]."""
    errors: list[dict[str, Any]]
    """Rows for errors.jsonl of the others."""
    warnings: dict[str, int]
    """Warnings by kind."""
    digests: list[bytes]
    """SHA-256 of the encoded bytes of each image that could be read."""


def decode_batch(
    images: Sequence[tuple[str, ImageFile]],
    image_px: int,
    out: np.ndarray | None = None,
    /,
    *,
    min_pixels: int = 1,
    max_pixels: int = MAX_PIXELS,
) -> DecodedBatch:
    """Decode (key, file) pairs into squares, the first places of `out` if that is given; what can't be read becomes a
    row with key, kind and reason.

    The row of a file says its size in bytes too: a repaired one is known by it (`lavit_core.data.digest_before`).
    """
    pixels = np.empty((len(images), image_px, image_px, 3), dtype=np.uint8) if out is None else out
    good: list[int] = []
    digests: list[bytes] = []
    errors: list[dict[str, Any]] = []
    counts: collections.Counter[str] = collections.Counter()
    with count_image_warnings(counts):
        for place, (key, file) in enumerate(images):
            digest, row = hashlib.sha256(), pixels[len(good)]
            try:
                square_pixels(file, image_px, min_pixels=min_pixels, max_pixels=max_pixels, digest=digest, out=row)
            except ImageError as error:
                errors.append({"key": key, "kind": error.kind, "reason": str(error), **_size(file)})
            else:
                good.append(place)
                digests.append(digest.digest())
    return DecodedBatch(good, pixels[: len(good)], errors, dict(counts), digests)


def _size(file: ImageFile) -> dict[str, int]:
    try:
        return {"bytes": os.stat(file).st_size} if isinstance(file, Path) else {}
    except OSError:
        return {}

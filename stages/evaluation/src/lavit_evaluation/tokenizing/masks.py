"""Masks of objects: one 8-bit PNG an image, of the same stem, 255 where the object is.

Letters: N images, P patches.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from lavit_core.errors import InputError
from lavit_scoring import Estimate
from lavit_scoring.estimate import ratio
from PIL import Image

INNER, EDGE = 0.9, 0.02
"""A patch is inner when the object covers more than 0.9 of it, an edge from 0.02 to 0.9, ground when none of it."""

OBJECT = 128
"""Pixels of at least this value are the object's."""


def read_covers(folder: Path, keys: Sequence[str], image_px: int, grid: tuple[int, int]) -> np.ndarray:
    """Return the share of each patch that the object covers, float64 [N, P] in raster order.

    Masks of any size are brought to the encoder's square with their images.
    Raises InputError if masks are missing, are not 8-bit grey PNG files, or show no object at all.
    """
    stems = Counter(PurePosixPath(key).stem for key in keys)
    if twice := [stem for stem, count in stems.items() if count > 1]:
        raise InputError(f"{folder}: {stems[twice[0]]} images are called {twice[0]}, expected one image a mask")
    files = [folder / f"{PurePosixPath(key).stem}.png" for key in keys]
    if missing := [(key, file) for key, file in zip(keys, files, strict=True) if not file.is_file()]:
        key, file = missing[0]
        raise InputError(
            f"{folder}: no mask for {len(missing)} of {len(keys)} images, first for {key}; expected {file.name} "
            "(8-bit grey PNG, 255 where the object is)"
        )
    masks = [_read_mask(file) for file in files]
    if not any((mask >= OBJECT).any() for mask in masks):
        largest = max(int(mask.max()) for mask in masks)
        raise InputError(f"{folder}: no mask shows an object; the largest value is {largest}, expected 255")
    return np.stack([patch_cover(mask >= OBJECT, image_px, grid) for mask in masks])


def _read_mask(file: Path) -> np.ndarray:
    try:
        with Image.open(file, formats=("PNG",)) as image:
            if image.mode != "L":
                raise InputError(f"{file}: a PNG of mode {image.mode}, expected an 8-bit grey one (mode L)")
            return np.asarray(image)
    except InputError:
        raise
    # PIL raises many kinds for broken content.
    except Exception as error:  # noqa: BLE001
        raise InputError(f"{file}: not a readable PNG ({' '.join(str(error).split())})") from None


def patch_cover(shown: np.ndarray, image_px: int, grid: tuple[int, int]) -> np.ndarray:
    """Return the share of each patch [P] that is True in a mask [h, w], squashed to a square of `image_px`."""
    rows, columns = grid
    high, wide = image_px // rows, image_px // columns
    # The mean over areas; a mask of floats, because grey would be rounded.
    square = Image.fromarray(shown.astype(np.float32)).resize((image_px, image_px), Image.Resampling.BOX)
    cut = np.asarray(square, dtype=np.float64)[: rows * high, : columns * wide]
    return cut.reshape(rows, high, columns, wide).mean((1, 3)).ravel()


def kept_by_cover(keep_NP: np.ndarray, cover_NP: np.ndarray) -> dict[str, Estimate]:
    """Return the share of kept patches among object patches, inner and edge ones apart, and among ground patches."""
    inner, edge = cover_NP > INNER, (cover_NP >= EDGE) & (cover_NP <= INNER)
    places = {"object": inner | edge, "object_inner": inner, "object_edge": edge, "ground": cover_NP == 0}
    return {
        f"selection.kept_of_{name}": ratio((keep_NP & where).sum(1), where.sum(1)) for name, where in places.items()
    }

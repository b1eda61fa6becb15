"""Arranging images for people: enlarging, grids, dimmed patches, PNGs with metadata."""

import base64
import math
from collections.abc import Sequence

import numpy as np

from lavit_core.images import png_bytes

GAP_PX = 8
DIMMED = 0.3
"""Share of its own colour that a dropped patch keeps; the rest is `SHADE`."""
SHADE = (44, 48, 56)


def data_url(pixels: np.ndarray) -> str:
    """Return an image as a data: URL for a page that loads nothing."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(pixels, optimize=True)).decode()


def enlarge(pixels: np.ndarray, least_px: int = 256) -> np.ndarray:
    """Repeat pixels a whole number of times until the shorter side has `least_px`: small images stay sharp."""
    factor = enlargement(pixels.shape[:2], least_px)
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def enlargement(size_px: Sequence[int], least_px: int = 256) -> int:
    """Return how many times `enlarge` repeats the pixels of an image of this height and width."""
    return max(1, math.ceil(least_px / min(size_px)))


def in_grid(images: Sequence[np.ndarray], columns: int | None = None) -> np.ndarray:
    """Place images [h, w, 3] side by side on white, in cells that hold the largest; without `columns` as near a square
    as goes."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    high, wide = (max(image.shape[axis] for image in images) for axis in (0, 1))
    sheet = np.full((*grid_px(len(images), (high, wide), columns), 3), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (high + GAP_PX), index % columns * (wide + GAP_PX)
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def grid_px(num_images: int, cell_px: tuple[int, int], columns: int | None = None) -> tuple[int, int]:
    """Return height and width in pixels of what `in_grid` makes of images whose largest fills a cell."""
    columns = columns or math.ceil(math.sqrt(num_images))
    high, wide = (cell + GAP_PX for cell in cell_px)
    return math.ceil(num_images / columns) * high - GAP_PX, columns * wide - GAP_PX


def dim_dropped(pixels: np.ndarray, keep_mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Darken the patches that were dropped: pixels uint8 [h, w, 3], keep_mask bool [P] in raster order over `grid`."""
    rows = np.arange(pixels.shape[0]) * grid[0] // pixels.shape[0]
    columns = np.arange(pixels.shape[1]) * grid[1] // pixels.shape[1]
    kept = keep_mask.reshape(grid)[rows[:, None], columns[None, :], None]
    faded = DIMMED * pixels + (1 - DIMMED) * np.asarray(SHADE)
    return np.where(kept, pixels, faded.round().astype(np.uint8))


def histogram(counts: np.ndarray, *, bars: int = 256, high: int = 120) -> np.ndarray:
    """Return counts as dark bars on white, sorted downwards, on a logarithmic scale: uint8 [high, w, 3].

    With more than `bars` counts, a bar shows the largest of its neighbours.
    """
    ordered = np.sort(counts)[::-1].astype(np.float64)
    shown = np.array([part.max() for part in np.array_split(ordered, min(bars, len(ordered)))])
    share = np.log1p(shown) / max(np.log1p(shown.max(initial=0)), 1e-9)
    filled = np.arange(high)[::-1, None] < np.ceil(share * high)[None, :]
    sheet = np.where(filled[..., None], np.uint8(40), np.uint8(255)).repeat(3, axis=2)
    return sheet.repeat(max(1, 512 // len(shown)), axis=1)

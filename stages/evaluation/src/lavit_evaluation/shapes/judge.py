"""Finds the objects of an image from its pixels alone: it knows the palette and the outlines, and no model.

Letters: H, W = image size; C = palette colours; M = candidate outlines. Lengths are in pixels of the judged image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from lavit_shapes.names import COLOURS, SHAPES
from lavit_shapes.outlines import CROSS_HALF_WIDTH, RING_INNER

MIN_AREA = 40
"""Connected areas below this many pixels (of a 64 x 64 image) are specks, not objects."""

MIN_IOU = 0.7
"""A blob that no ideal outline matches this well has no shape: a guess would be right one time in three."""

SPLIT_SHARE = 0.25
"""A connected area whose second colour takes at least this share is two objects that touch."""

SCALES = (0.92, 1.0, 1.08)
_SQUARE_HALF = np.sqrt(np.pi) / 2

OFFSETS_PX = (-1.0, 0.0, 1.0)
"""Sizes and centres tried around the ones that area and centroid give."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One object that the judge saw."""

    colour: str
    """Nearest palette colour."""
    shape: str | None
    """Best fitting outline, or None when none fits."""
    x: float
    """Centre, in pixels from the left."""
    y: float
    """Centre, in pixels from the top."""
    radius: float
    """Fitted size in pixels, as the drawing code counts it."""
    iou: float
    """Intersection over union with the fitted outline."""


def judge(pixels: np.ndarray, shapes: Sequence[str] = SHAPES) -> list[Found]:
    """Return the objects of a uint8 image [H, W, 3], from left to right; `shapes` are the outlines it knows."""
    labels = colour_labels(pixels)
    min_area = MIN_AREA * pixels.shape[0] * pixels.shape[1] / 64**2
    names = list(COLOURS)
    found = []
    for component in connected(labels >= 0):
        for colour, mask in _by_colour(labels, component, min_area):
            found.append(_fit(mask, names[colour], shapes))
    return sorted(found, key=lambda one: (one.x, one.y))


def colour_labels(pixels: np.ndarray) -> np.ndarray:
    """Return int [H, W]: the palette index of each object pixel, -1 on the background.

    A pixel is explained as background + share * (colour - background) with the colour that leaves the smallest rest,
    and belongs to an object when that share is above one half: anti-aliased edges need no third class.
    """
    smooth = _smooth(pixels.astype(np.float64))
    border = np.concatenate([smooth[:2].reshape(-1, 3), smooth[-2:].reshape(-1, 3), smooth[:, :2].reshape(-1, 3),
                             smooth[:, -2:].reshape(-1, 3)])  # fmt: skip
    background = np.median(border, axis=0)
    towards = np.array(list(COLOURS.values()), dtype=np.float64) - background  # [C, 3]
    shift = smooth - background  # [H, W, 3]
    lengths = np.maximum((towards**2).sum(-1), 1.0)
    along = shift @ towards.T  # [H, W, C]
    share = np.clip(along / lengths, 0.0, 1.0)
    # |shift - share * towards|^2 without |shift|^2, which is the same for every colour.
    rest = share * (share * lengths - 2 * along)
    best = rest.argmin(-1)
    covered = np.take_along_axis(share, best[..., None], -1)[..., 0] > 0.5
    return np.where(covered, best, -1)


def connected(mask: np.ndarray) -> list[np.ndarray]:
    """Return the 4-connected areas of a bool mask [H, W] as bool masks, in raster order of their first pixel."""
    height, width = mask.shape
    # A frame of False around the image, flattened: every pixel has four neighbours, and no index needs a check.
    left = np.pad(mask, 1).ravel().tolist()
    steps = (-1, 1, -(width + 2), width + 2)
    areas = []
    for start in np.flatnonzero(np.pad(mask, 1)).tolist():
        if not left[start]:
            continue
        left[start] = False
        queue = [start]
        for here in queue:  # grows while it is read
            for step in steps:
                if left[here + step]:
                    left[here + step] = False
                    queue.append(here + step)
        area = np.zeros((height + 2) * (width + 2), dtype=bool)
        area[queue] = True
        areas.append(area.reshape(height + 2, width + 2)[1:-1, 1:-1])
    return areas


def outline(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return which points lie inside an ideal shape; `x`, `y` from the centre of its bounding box, y downwards.

    The square has the circle's area; the triangle is equilateral with sides of 2 radii, apex up; the others reach one
    radius to every side.
    """
    if shape == "circle":
        return x**2 + y**2 <= radius**2
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) <= _SQUARE_HALF * radius
    if shape == "diamond":
        return np.abs(x) + np.abs(y) <= radius
    if shape == "cross":
        near, far = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
        return (near <= CROSS_HALF_WIDTH * radius) & (far <= radius)
    if shape == "ring":
        away = x**2 + y**2
        return (away <= radius**2) & (away >= (RING_INNER * radius) ** 2)
    height = np.sqrt(3.0) * radius
    return (y <= height / 2) & (np.abs(x) <= (y + height / 2) / np.sqrt(3.0))


def _size_from_area(shape: str, area: float) -> tuple[float, float]:
    """Return the radius of a shape of this area, and how far its centroid lies below its box's centre."""
    if shape == "triangle":
        radius = float(np.sqrt(area / np.sqrt(3.0)))
        return radius, radius * np.sqrt(3.0) / 6
    bar = CROSS_HALF_WIDTH
    unit = {"diamond": 2.0, "cross": 8 * bar - 4 * bar**2, "ring": np.pi * (1 - RING_INNER**2)}.get(shape, np.pi)
    return float(np.sqrt(area / unit)), 0.0


def _smooth(pixels: np.ndarray) -> np.ndarray:
    """Average with (1, 2, 1) / 4 both ways: noise shrinks to 3/8, straight edges stay where they are."""
    for axis in (0, 1):
        padding = [(1, 1) if dim == axis else (0, 0) for dim in range(3)]
        padded = np.pad(pixels, padding, mode="edge")
        size = pixels.shape[axis]
        before, here, after = (np.take(padded, range(shift, shift + size), axis) for shift in range(3))
        pixels = (before + 2 * here + after) / 4
    return pixels


def _by_colour(labels: np.ndarray, component: np.ndarray, min_area: float) -> list[tuple[int, np.ndarray]]:
    """Split a connected area into (palette index, mask): one object, or two of different colours that touch."""
    area = int(component.sum())
    if area < min_area:
        return []
    counts = np.bincount(labels[component])
    large = [index for index in np.argsort(-counts) if counts[index] >= max(min_area, SPLIT_SHARE * area)]
    if len(large) < 2:
        return [(int(counts.argmax()), component)]
    parts = []
    for index in large:
        biggest = max(connected(component & (labels == index)), key=lambda part: int(part.sum()))
        if biggest.sum() >= min_area:
            parts.append((int(index), biggest))
    return parts


def _fit(mask: np.ndarray, colour: str, shapes: Sequence[str]) -> Found:
    """Compare a mask with every outline of the size its area gives, a little around its centroid."""
    rows, columns = np.nonzero(mask)
    top, left = max(rows.min() - 2, 0), max(columns.min() - 2, 0)
    crop = mask[top : rows.max() + 3, left : columns.max() + 3]
    # Pixel (row, column) covers [column, column + 1): its centre lies half a pixel further.
    grid_y, grid_x = np.mgrid[top : top + crop.shape[0], left : left + crop.shape[1]] + 0.5
    centre_x, centre_y, area = columns.mean() + 0.5, rows.mean() + 0.5, float(mask.sum())
    best = Found(colour=colour, shape=None, x=centre_x, y=centre_y, radius=float(np.sqrt(area / np.pi)), iou=0.0)
    for shape in shapes:
        radius, drop = _size_from_area(shape, area)
        size, dx, dy = (axis.ravel() for axis in np.meshgrid(SCALES, OFFSETS_PX, OFFSETS_PX))
        sizes, xs, ys = (radius * size, centre_x + dx, centre_y + dy - drop)
        outlines = outline(
            shape, grid_x - xs[:, None, None], grid_y - ys[:, None, None], sizes[:, None, None]
        )  # [M, h, w]
        overlap = (outlines & crop).sum((1, 2)) / (outlines | crop).sum((1, 2))
        top_fit = int(overlap.argmax())
        if overlap[top_fit] > best.iou:
            fits = shape if overlap[top_fit] >= MIN_IOU else None
            best = Found(colour=colour, shape=fits, x=float(xs[top_fit]), y=float(ys[top_fit]),
                         radius=float(sizes[top_fit]), iou=float(overlap[top_fit]))  # fmt: skip
    return best

"""Statistics of which patches are kept, with numpy alone. Letters: N images, P patches."""

import numpy as np


def patch_detail(pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return the detail of each patch of uint8 images [N, h, w, 3], float64 [N, P] in raster order on the [0, 1] scale.

    It is the standard deviation of the patch's pixels from its mean colour, 0 for a patch of one colour: the root of
    the mean over pixels and channels of the squared deviation. Pixels beyond the last whole patch are left out, as the
    encoder leaves them out.
    """
    rows, columns = grid
    high, wide = pixels.shape[1] // rows, pixels.shape[2] // columns
    cut = pixels[:, : rows * high, : columns * wide].astype(np.int64)
    patches = cut.reshape(len(pixels), rows, high, columns, wide, 3)
    count = high * wide
    # In whole numbers, so that a patch of one colour has no detail at all.
    spread = count * (patches**2).sum(axis=(2, 4)) - patches.sum(axis=(2, 4)) ** 2
    return np.sqrt(spread.mean(axis=-1)).reshape(len(pixels), rows * columns) / (255 * count)


def detail_of_kept(detail_NP: np.ndarray, keep_NP: np.ndarray) -> tuple[float | None, float | None]:
    """Return the mean detail of kept and of dropped patches; None where there are none."""
    kept, dropped = detail_NP[keep_NP], detail_NP[~keep_NP]
    return (float(kept.mean()) if kept.size else None, float(dropped.mean()) if dropped.size else None)


def place_explained(probability_NP: np.ndarray) -> float | None:
    """Return the share of the keep probabilities' variance that the patch's place explains; None if all are equal.

    The variance over places of the mean probability at a place, over the variance of all probabilities: 1 if every
    image has the same probabilities. It says nothing alone: where objects stand in the middle, place matters.
    """
    total = float(probability_NP.astype(np.float64).var())
    if total < 1e-12:
        return None
    return float(probability_NP.astype(np.float64).mean(axis=0).var()) / total

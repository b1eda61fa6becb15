"""Seams: steps between neighbouring pixels across the borders of patches, held against those within patches."""

import numpy as np


def mean_steps(pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return the mean absolute step across borders and within patches of uint8 images [N, h, w, 3], float64 [N, 2].

    Steps go from a pixel to the next one to the right and below, on the [0, 1] scale; all channels count alike. An
    image of one patch has no border: its first mean is nan.
    """
    images = pixels.astype(np.int16)
    sums, counts = np.zeros((2, len(images))), np.zeros(2)
    for axis, patches in ((1, grid[0]), (2, grid[1])):
        side = images.shape[axis]
        patch = np.arange(side) * patches // side
        crosses = patch[1:] != patch[:-1]
        others = (3 - axis, 3)
        steps = np.abs(np.diff(images, axis=axis)).mean(axis=others, dtype=np.float64) / 255  # [N, side - 1]
        weight = images.shape[3 - axis]
        for place, chosen in enumerate((crosses, ~crosses)):
            sums[place] += steps[:, chosen].sum(axis=1) * weight
            counts[place] += int(chosen.sum()) * weight
    with np.errstate(invalid="ignore"):
        return (sums / counts[:, None]).T

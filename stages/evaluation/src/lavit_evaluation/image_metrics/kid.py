"""KID: unbiased squared maximum mean discrepancy of features, for sets too small for FID."""

import numpy as np
from lavit_core.seeds import derive_seed

SUBSETS, SUBSET_SIZE = 100, 1000
"""Source: Binkowski et al. 2018 (arXiv 1801.01401) and the common implementations."""


def polynomial_mmd(one: np.ndarray, other: np.ndarray) -> float:
    """Return the unbiased MMD^2 of features [M, D] and [M, D] under the kernel (x y / D + 1)^3."""
    x, y = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    m, width = len(x), x.shape[1]
    within_x, within_y, across = ((a @ b.T / width + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    inside = (within_x.sum() - np.trace(within_x) + within_y.sum() - np.trace(within_y)) / (m * (m - 1))
    return float(inside - 2 * across.mean())


def kid(one: np.ndarray, other: np.ndarray, *, seed: int) -> np.ndarray:
    """Return the MMD^2 of each of 100 pairs of subsets (of at most 1,000 features); KID is their mean."""
    count = min(SUBSET_SIZE, len(one), len(other))
    rng = np.random.default_rng(derive_seed(seed, "kid"))
    return np.array(
        [
            polynomial_mmd(
                one[rng.choice(len(one), count, replace=False)], other[rng.choice(len(other), count, replace=False)]
            )
            for _ in range(SUBSETS)
        ]
    )

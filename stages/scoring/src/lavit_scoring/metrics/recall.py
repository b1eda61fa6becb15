"""R@K of retrieval in both directions, from one matrix of scores."""

from collections.abc import Sequence

import numpy as np

DEPTHS = (1, 5, 10)


def first_hits(scores: np.ndarray, relevant: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the best rank (0 = first) of a relevant column in each row of scores [N, M].

    A tie counts against the model: a wrong column of equal score ranks before the right one. Raises ValueError for
    a non-finite score and for a row without anything relevant.
    """
    if not np.isfinite(scores).all():
        raise ValueError("retrieval scores: found nan or inf, expected finite numbers")
    ranks = np.empty(len(scores), dtype=np.int64)
    for row, columns in enumerate(relevant):
        if not len(columns):
            raise ValueError(f"retrieval: nothing is relevant to row {row}")
        wrong = np.ones(scores.shape[1], dtype=bool)
        wrong[list(columns)] = False
        ranks[row] = int((scores[row, wrong] >= scores[row, list(columns)].max()).sum())
    return ranks


def recall_at(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Return per row whether something relevant is among the first K: `r@1`, `r@5`, `r@10` (bool [N])."""
    return {f"r@{depth}": ranks < depth for depth in DEPTHS}

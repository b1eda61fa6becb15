"""Best of N: of several candidates of an image the one with the best score is kept."""

from collections.abc import Sequence

import numpy as np
from lavit_core.seeds import derive_seed


def candidate_seeds(seeds: Sequence[int], best_of: int) -> list[int]:
    """Return the seeds of all candidates, those of an image after one another.

    The first candidate has the image's own seed, so best of 1 is the image itself.
    """
    return [own for seed in seeds for own in _candidates(seed, best_of)]


def choose_best(scores: Sequence[float] | np.ndarray, best_of: int) -> np.ndarray:
    """Return the index, int64 [N], of the best of every `best_of` consecutive candidates; the first of equals.

    `scores` float [N * best_of] or [N, best_of]: more is better.
    """
    rows = np.asarray(scores).reshape(-1, best_of)
    return np.arange(len(rows)) * best_of + rows.argmax(axis=1)


def _candidates(seed: int, best_of: int) -> list[int]:
    return [seed, *(derive_seed(seed, "candidate", number) for number in range(1, best_of))]

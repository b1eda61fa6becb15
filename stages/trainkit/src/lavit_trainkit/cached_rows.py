"""Results of a frozen network by training sample: kept in memory if all of them fit, else computed each time."""

from collections.abc import Callable

import numpy as np
import torch
from lavit_core.errors import Interrupted
from lavit_core.interrupt import stop_requested
from lavit_core.progress import Progress
from lavit_core.seeds import epoch_batches
from torch import Tensor

from lavit_trainkit.distributed import all_reduce_, is_own_place

BATCH = 128
"""Samples that are computed together to fill the cache."""


class CachedRows:
    """Rows of `compute(indices)` by index: computed once and kept if `count` rows of `row_bytes` fit in `cache_bytes`.

    The cache is on the CPU, in `dtype` (None: as computed); several processes fill it together.
    """

    def __init__(
        self,
        compute: Callable[[np.ndarray], Tensor],
        count: int,
        row_bytes: int,
        *,
        cache_bytes: int,
        title: str,
        dtype: torch.dtype | None = None,
        quiet: bool = False,
    ) -> None:
        self._compute = compute
        self._cache = _fill(compute, count, title, dtype, quiet) if count * row_bytes <= cache_bytes else None

    def batch(self, indices: np.ndarray) -> Tensor:
        """Return the rows of `indices`."""
        return self._compute(indices) if self._cache is None else self._cache[torch.from_numpy(indices)]


def _fill(
    compute: Callable[[np.ndarray], Tensor], count: int, title: str, dtype: torch.dtype | None, quiet: bool
) -> Tensor:
    cache: Tensor | None = None
    with Progress(title, count, unit="image", quiet=quiet) as progress:
        for number, rows in enumerate(epoch_batches(count, BATCH)):
            if number == 0 or is_own_place(number):  # every process learns the shape from the first batch
                part = compute(np.arange(rows.start, rows.stop))
            if cache is None:
                cache = torch.zeros((count, *part.shape[1:]), dtype=dtype or part.dtype)
            if is_own_place(number):
                cache[rows] = part
            progress.advance(rows.stop - rows.start)
            if stop_requested():
                # The cache is not kept: it would be as large as what it spares, and is the same when made again.
                raise Interrupted(
                    f"{title}: at image {rows.stop} of {count}, before the first step; run the same command again"
                )
    assert cache is not None
    all_reduce_(cache)
    return cache

"""Cached rows against the function that computes them."""

import os
import signal

import numpy as np
import pytest
import torch
from lavit_core.errors import Interrupted
from lavit_core.interrupt import stop_signals
from lavit_trainkit.cached_rows import BATCH, CachedRows


def counted(count, *, cache_bytes, dtype=None):
    calls = []

    def compute(indices):
        calls.append(len(indices))
        return torch.from_numpy(indices)[:, None] / 3 + torch.arange(2)

    return CachedRows(compute, count, 8, cache_bytes=cache_bytes, title="rows", dtype=dtype, quiet=True), calls


def test_rows_that_fit_are_computed_once() -> None:
    rows, calls = counted(BATCH + 2, cache_bytes=8 * (BATCH + 2))
    assert calls == [BATCH, 2]
    indices = np.array([BATCH + 1, 0, 5])
    assert torch.equal(rows.batch(indices), torch.from_numpy(indices)[:, None] / 3 + torch.arange(2))
    assert calls == [BATCH, 2]


def test_a_stop_is_seen_while_the_cache_fills() -> None:
    calls = []

    def compute(indices):
        calls.append(len(indices))
        os.kill(os.getpid(), signal.SIGTERM)
        return torch.from_numpy(indices)[:, None]

    stopped = pytest.raises(Interrupted, match=f"rows: at image {BATCH} of {3 * BATCH}, before the first step")
    with stop_signals(), stopped:
        CachedRows(compute, 3 * BATCH, 8, cache_bytes=1 << 20, title="rows", quiet=True)
    assert calls == [BATCH]


def test_rows_that_do_not_fit_are_computed_each_time() -> None:
    rows, calls = counted(4, cache_bytes=31)
    indices = np.array([3, 1])
    for _ in range(2):
        assert torch.equal(rows.batch(indices), torch.from_numpy(indices)[:, None] / 3 + torch.arange(2))
    assert calls == [2, 2]


def test_the_cache_has_the_given_precision() -> None:
    exact, (rows, _) = counted(4, cache_bytes=0)[0], counted(4, cache_bytes=32, dtype=torch.bfloat16)
    everything = np.arange(4)
    assert torch.equal(rows.batch(everything), exact.batch(everything).bfloat16())

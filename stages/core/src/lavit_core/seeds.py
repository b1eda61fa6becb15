"""Counter-based randomness: a stream is named by its purpose, so resuming never repeats or skips a draw."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for the stream named by `purpose` (say: "gumbel", step) under the run's `seed`."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def shuffled_batch(num_items: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Return the item indices [batch_size] of one training step, from an endless chain of per-epoch permutations.

    The result depends on the arguments alone, so a resumed run reads the same batches as an uninterrupted one.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    batch = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(positions // num_items):
        order = np.random.default_rng(derive_seed(seed, "epoch", int(epoch))).permutation(num_items)
        here = positions // num_items == epoch
        batch[here] = order[positions[here] % num_items]
    return batch


def repeat_items(items: np.ndarray, weights: Sequence[int]) -> np.ndarray:
    """Return item indices, each as often as its weight says: `shuffled_batch` over them draws by weight."""
    return np.repeat(items, np.asarray(weights, dtype=np.int64)[items])


def epoch_batches(num_items: int, batch_size: int) -> Iterator[slice]:
    """Yield consecutive slices of at most `batch_size` items: one pass in order, the last one short."""
    for start in range(0, num_items, batch_size):
        yield slice(start, min(start + batch_size, num_items))

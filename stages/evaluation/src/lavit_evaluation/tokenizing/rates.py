"""The same number of tokens, chosen in three ways: one threshold for all, the best of each image, and at random.

Letters: N images, P patches.
"""

from collections.abc import Sequence

import numpy as np
from lavit_core.errors import UsageError
from lavit_core.seeds import derive_seed

METHODS = {
    "learned": "threshold moved so that the mean is so many tokens",
    "topk": "so many of each image, those with the highest keep probability",
    "random": "so many of each image, at random",
}


OWN = "own"
"""In the place of a number of tokens: the tokenizer's threshold as it was trained."""


def read_rates(text: str) -> tuple[int, ...]:
    """Return the tokens an image of an option like 8,12,16. Raises UsageError for anything else."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--tokens {text}: expected whole numbers of tokens an image, say 8,12,16,24,32")
    return tuple(dict.fromkeys(int(part) for part in parts))


def check_rates(rates: Sequence[int], num_patches: int) -> None:
    """Raise UsageError for a number of tokens that an image can't have."""
    if wrong := [rate for rate in rates if not 1 <= rate <= num_patches]:
        raise UsageError(f"--tokens: found {wrong[0]} tokens an image, expected 1 to {num_patches}, its patches")


def masks_at(log_odds_NP: np.ndarray, rate: int, keys: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Return the keep masks bool [N, P] of each method at a mean of `rate` tokens an image."""
    return {
        "learned": learned_masks(log_odds_NP, rate),
        "topk": topk_masks(log_odds_NP, rate),
        "random": random_masks(keys, log_odds_NP.shape[1], rate, seed),
    }


def learned_masks(log_odds_NP: np.ndarray, rate: int) -> np.ndarray:
    """Return the masks of one threshold for all images, set so that the mean is `rate`.

    Each image keeps its best patch. Equal values at the threshold are all kept.
    """
    odds = log_odds_NP.astype(np.float64)
    odds[np.arange(len(odds)), odds.argmax(axis=1)] = np.inf
    threshold = np.sort(odds, axis=None)[-rate * len(odds)]
    return odds >= threshold


def topk_masks(log_odds_NP: np.ndarray, rate: int) -> np.ndarray:
    """Return the masks of the `rate` best patches of each image; of equal ones the first."""
    best = np.argsort(-log_odds_NP, axis=1, kind="stable")[:, :rate]
    masks = np.zeros(log_odds_NP.shape, dtype=bool)
    np.put_along_axis(masks, best, True, axis=1)
    return masks


def random_masks(keys: Sequence[str], num_patches: int, rate: int, seed: int) -> np.ndarray:
    """Return the masks of `rate` random patches of each image, drawn by seed and key; more tokens add to fewer."""
    masks = np.zeros((len(keys), num_patches), dtype=bool)
    for mask, key in zip(masks, keys, strict=True):
        rng = np.random.default_rng(derive_seed(seed, "random patches", key))
        mask[rng.permutation(num_patches)[:rate]] = True
    return masks

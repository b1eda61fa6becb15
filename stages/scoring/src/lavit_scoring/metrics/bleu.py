"""BLEU-1..4 of a caption set, as the COCO caption server counts it (closest reference length, tiny and small terms)."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

MAX_N = 4
_TINY, _SMALL = 1e-15, 1e-9


def ngram_counts(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Return how often each n-gram of 1 to 4 words occurs."""
    return Counter(tuple(words[i : i + n]) for n in range(1, MAX_N + 1) for i in range(len(words) - n + 1))


def bleu_parts(caption: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return what one caption adds to the corpus: length, reference length, 4 guesses, 4 hits (float64 [10])."""
    most: Counter[tuple[str, ...]] = Counter()
    for reference in references:
        most |= ngram_counts(reference)
    length = len(caption)
    closest = min((abs(len(reference) - length), len(reference)) for reference in references)[1]
    guesses = [max(0, length - n) for n in range(MAX_N)]
    hits = [0] * MAX_N
    for ngram, count in ngram_counts(caption).items():
        hits[len(ngram) - 1] += min(count, most.get(ngram, 0))
    return np.array([length, closest, *guesses, *hits], dtype=np.float64)


def bleu_of(sums: np.ndarray) -> np.ndarray:
    """Return BLEU-1..4 [..., 4] of summed parts [..., 10]. Source: Papineni et al. 2002, the server's constants."""
    lengths, closest = sums[..., 0], sums[..., 1]
    precision = (sums[..., 6:10] + _TINY) / (sums[..., 2:6] + _SMALL)
    bleu = np.cumprod(precision, axis=-1) ** (1 / np.arange(1, MAX_N + 1))
    ratio = (lengths + _TINY) / (closest + _SMALL)
    return bleu * np.exp(np.minimum(0.0, 1 - 1 / ratio))[..., None]

"""CIDEr-D of a caption set, as the COCO caption server counts it (it calls it CIDEr).

The weights of n-grams come from the references of the *evaluated set*: the same caption scores differently in another
set, and scores of parts can't be averaged into the score of the whole.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lavit_scoring.metrics.bleu import MAX_N, ngram_counts

SIGMA = 6.0
"""Width of the penalty on a difference in length, in bigrams."""

Ngram = tuple[str, ...]


def cider_d(captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> np.ndarray:
    """Return CIDEr-D of each caption (float64 [N], 0 to 10); the score of the set is their mean.

    Source: Vedantam et al. 2015, section 4, the -D variant.
    """
    counted = [[ngram_counts(reference) for reference in truth] for truth in references]
    documents: Counter[Ngram] = Counter()
    for truth in counted:
        documents.update({ngram for reference in truth for ngram in reference})
    log_size = math.log(len(captions)) if captions else 0.0
    weights = {ngram: log_size - math.log(count) for ngram, count in documents.items()}
    return np.array(
        [
            _mean_similarity(_vector(ngram_counts(caption), weights, log_size), truth, weights, log_size)
            for caption, truth in zip(captions, counted, strict=True)
        ]
    )


class _Vector(NamedTuple):
    """The weighted n-grams of one caption: `terms` by n-gram, `norms` by n, `bigrams` in all."""

    terms: dict[Ngram, float]
    norms: list[float]
    bigrams: int


def _vector(counts: Counter[Ngram], weights: dict[Ngram, float], log_size: float) -> _Vector:
    terms: dict[Ngram, float] = {}
    squares, bigrams = [0.0] * MAX_N, 0
    for ngram, count in counts.items():
        # An n-gram of no reference weighs as one that occurs in a single document.
        terms[ngram] = term = count * weights.get(ngram, log_size)
        squares[len(ngram) - 1] += term * term
        # The server's "length" counts bigrams (it tests n == 1 where n starts at 0).
        bigrams += count if len(ngram) == 2 else 0
    return _Vector(terms, [math.sqrt(square) for square in squares], bigrams)


def _mean_similarity(
    caption: _Vector, truth: Sequence[Counter[Ngram]], weights: dict[Ngram, float], log_size: float
) -> float:
    total = 0.0
    for reference in truth:
        other = _vector(reference, weights, log_size)
        products = [0.0] * MAX_N
        for ngram, term in caption.terms.items():
            expected = other.terms.get(ngram)
            if expected is not None:
                products[len(ngram) - 1] += min(term, expected) * expected
        penalty = math.exp(-((caption.bigrams - other.bigrams) ** 2) / (2 * SIGMA**2))
        for product, norm, other_norm in zip(products, caption.norms, other.norms, strict=True):
            total += penalty * (product / (norm * other_norm) if norm and other_norm else product)
    return 10.0 * total / MAX_N / len(truth)

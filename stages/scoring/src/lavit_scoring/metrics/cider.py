"""CIDEr-D of a caption set, as the COCO caption server counts it (it calls it CIDEr).

The weights of n-grams come from the references of the *evaluated set*: the same caption scores differently in another
set, and scores of parts can't be averaged into the score of the whole.

Letters: N captions, R references of all of them, X texts (captions, then references), W words of all texts, G different
n-grams of one n, E n-grams that a text contains, of all texts.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from lavit_scoring.metrics.bleu import MAX_N

SIGMA = 6.0
"""Width of the penalty on a difference in length, in bigrams."""


def cider_d(captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> np.ndarray:
    """Return CIDEr-D of each caption (float64 [N], 0 to 10); the score of the set is their mean.

    Source: Vedantam et al. 2015, section 4, the -D variant.
    """
    num_captions = len(captions)
    if not num_captions:
        return np.zeros(0)
    num_references = np.array([len(truth) for truth in references])
    owner_R = np.repeat(np.arange(num_captions), num_references)
    texts = [*captions, *chain.from_iterable(references)]
    similarity_R = np.zeros(len(owner_R))
    for text_E, gram_E, count_E in _ngrams_of_texts(texts):
        similarity_R += _similarities(text_E, gram_E, count_E, owner_R, num_captions)
    # The server's "length" counts bigrams (it tests n == 1 where n starts at 0).
    bigrams_X = np.array([max(0, len(text) - 1) for text in texts])
    difference_R = bigrams_X[owner_R] - bigrams_X[num_captions:]
    penalised_R = np.exp(-(difference_R**2) / (2 * SIGMA**2)) * similarity_R
    return 10.0 * np.bincount(owner_R, penalised_R, num_captions) / MAX_N / num_references


def _ngrams_of_texts(texts: Sequence[Sequence[str]]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield for each n text, n-gram and count [E] of what occurs, sorted by text and n-gram."""
    numbers: dict[str, int] = {}
    word_W = np.array([numbers.setdefault(word, len(numbers)) for text in texts for word in text], dtype=np.int64)
    text_W = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    gram_W = np.zeros(len(word_W), dtype=np.int64)
    for n in range(1, MAX_N + 1):
        starts = max(0, len(word_W) - n + 1)
        inside = text_W[:starts] == text_W[n - 1 :]
        # An n-gram is the one of n - 1 words, and its last word.
        longer_W = gram_W[:starts] * (len(numbers) + 1) + word_W[n - 1 :]
        gram_W = np.unique(longer_W, return_inverse=True)[1]
        num_grams = int(gram_W.max(initial=0)) + 1
        keys_E, count_E = np.unique((text_W[:starts] * num_grams + gram_W)[inside], return_counts=True)
        yield keys_E // num_grams, keys_E % num_grams, count_E


def _similarities(
    text_E: np.ndarray, gram_E: np.ndarray, count_E: np.ndarray, owner_R: np.ndarray, num_captions: int
) -> np.ndarray:
    """Return the clipped cosine of each reference with its caption, by n-grams of one n [R]."""
    num_grams = int(gram_E.max(initial=0)) + 1
    is_truth = text_E >= num_captions
    owner_E = np.where(is_truth, owner_R[np.where(is_truth, text_E - num_captions, 0)], text_E)
    place_E = owner_E * num_grams + gram_E
    documents_G = np.bincount(np.unique(place_E[is_truth]) % num_grams, minlength=num_grams)
    # An n-gram of no reference weighs as one that occurs in a single document.
    term_E = count_E * (math.log(num_captions) - np.log(np.maximum(documents_G, 1)))[gram_E]
    norm_X = np.sqrt(np.bincount(text_E, term_E**2, num_captions + len(owner_R)))
    place_C, term_C = place_E[~is_truth], term_E[~is_truth]
    found_E = np.searchsorted(place_C, place_E[is_truth]).clip(max=len(place_C) - 1)
    both_E = place_C[found_E] == place_E[is_truth] if len(place_C) else np.zeros(int(is_truth.sum()), dtype=bool)
    term_B, reference_B = term_E[is_truth][both_E], text_E[is_truth][both_E] - num_captions
    product_R = np.bincount(reference_B, np.minimum(term_C[found_E[both_E]], term_B) * term_B, len(owner_R))
    norms_R = norm_X[owner_R] * norm_X[num_captions:]
    return product_R / np.where(norms_R > 0, norms_R, 1.0)

"""Ranks and recall of retrieval from matrices of log-likelihoods. Letters: I images, M captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from lavit_scoring import Estimate
from lavit_scoring.bootstrap import percent
from lavit_scoring.metrics.recall import first_hits, recall_at


def ranks_by_text(log_p_IM: np.ndarray, owners_M: np.ndarray, lengths_M: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rank of the best right answer by log p(text | image), for every way of comparing."""
    top = log_p_IM.max(0)
    prior_M = top + np.log(np.exp(log_p_IM - top).mean(0))
    own = own_captions(owners_M, len(log_p_IM))
    return {
        "text_to_image": first_hits(log_p_IM.T, [[place] for place in owners_M]),
        "image_to_text": first_hits(log_p_IM, own),
        "image_to_text.per_token": first_hits(log_p_IM / lengths_M, own),
        "image_to_text.debiased": first_hits(log_p_IM - prior_M, own),
    }


def ranks_by_codes(
    log_p_MI: np.ndarray, prior_I: np.ndarray, owners_M: np.ndarray, eta: float
) -> dict[str, np.ndarray]:
    """Return the rank of the best right answer by log p(codes | text), alone and less `eta` log p(codes)."""
    targets = [[place] for place in owners_M]
    return {
        "text_to_image.codes": first_hits(log_p_MI, targets),
        "text_to_image.codes.debiased": first_hits(log_p_MI - eta * prior_I, targets),
        # Captions of one image are compared: its own log p(codes) is the same under all of them.
        "image_to_text.codes": first_hits(log_p_MI.T, own_captions(owners_M, len(prior_I))),
    }


def own_captions(owners_M: np.ndarray, num_images: int) -> list[list[int]]:
    """Return the places of each image's captions."""
    return [np.flatnonzero(owners_M == place).tolist() for place in range(num_images)]


def recalls(ranks: dict[str, np.ndarray], owners_M: np.ndarray, names: Sequence[Any], seed: int) -> dict[str, Estimate]:
    """Return R@1, 5, 10 of each way with intervals over images."""
    metrics = {}
    for way, found in ranks.items():
        clusters = [names[place] for place in owners_M] if way.startswith("text_to_image") else list(names)
        for depth, hits in recall_at(found).items():
            metrics[f"{way}.{depth}"] = percent([float(hit) for hit in hits], clusters, seed, f"{way}.{depth}")
    return metrics

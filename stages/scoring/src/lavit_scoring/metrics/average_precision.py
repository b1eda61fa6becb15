"""Average precision and F1 of a binary decision, as scikit-learn (and so the VizWiz server) defines them."""

import numpy as np


def average_precision(positives: np.ndarray, scores: np.ndarray) -> float:
    """Return sum over thresholds of (recall gained) x precision; equal scores are one threshold.

    Raises ValueError if nothing is positive: average precision is not defined then.
    """
    positives = np.asarray(positives, dtype=bool)
    if not positives.any():
        raise ValueError("average precision: no positive example, expected at least one")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positives[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def f1_score(positives: np.ndarray, claimed: np.ndarray) -> float:
    """Return 2 TP / (2 TP + FP + FN), 0 when nothing is positive and nothing claimed."""
    positives, claimed = np.asarray(positives, dtype=bool), np.asarray(claimed, dtype=bool)
    both = int((positives & claimed).sum())
    total = int(positives.sum() + claimed.sum())
    return 2 * both / total if total else 0.0

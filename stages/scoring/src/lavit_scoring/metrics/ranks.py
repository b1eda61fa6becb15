"""Statistics of order: ranks, Spearman's correlation and the area under the ROC curve; ties count half."""

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value from 1, float64 [N]; equal values share the mean of their ranks."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group.reshape(-1)]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation of two lists [N], -1 to 1: Pearson's of their ranks.

    Raises ValueError if all values of one are equal: the correlation is not defined then.
    """
    x, y = (ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    if scale == 0:
        raise ValueError("rank correlation: all values are equal, expected at least two different ones")
    return float((x * y).sum() / scale)


def placements(positives: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return for each score the share of the other kind that it is on the right side of, float64 [N].

    A positive: the share of negatives below it; a negative: the share of positives above it. The mean over either kind
    is the area under the ROC curve. Source: DeLong et al. 1988, structural components.
    Raises ValueError unless there are positives and negatives.
    """
    positives = np.asarray(positives, dtype=bool)
    num_positives, num_negatives = int(positives.sum()), int((~positives).sum())
    if not num_positives or not num_negatives:
        raise ValueError(f"AUC: found {num_positives} positives and {num_negatives} negatives, expected some of both")
    among_all = ranks(scores)
    placed = np.empty(len(scores))
    placed[positives] = (among_all[positives] - ranks(scores[positives])) / num_negatives
    placed[~positives] = 1 - (among_all[~positives] - ranks(scores[~positives])) / num_positives
    return placed


def auc(positives: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve: the share of pairs whose positive has the higher score.

    Raises ValueError unless there are positives and negatives.
    """
    return float(placements(positives, scores)[np.asarray(positives, dtype=bool)].mean())

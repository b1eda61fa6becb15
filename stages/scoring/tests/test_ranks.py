"""Ranks, Spearman's correlation and AUC against their definitions, pair by pair."""

import numpy as np
import pytest
from lavit_scoring.metrics.ranks import auc, placements, rank_correlation, ranks


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks(np.array([30, 10, 20, 20, 5])).tolist() == [5, 2, 3.5, 3.5, 1]
    assert ranks(np.array([])).tolist() == []


def test_rank_correlation_by_hand() -> None:
    one = np.array([1, 2, 3, 4, 5])
    assert rank_correlation(one, one**3) == pytest.approx(1)
    assert rank_correlation(one, -np.exp(one)) == pytest.approx(-1)
    # Without ties: 1 - 6 sum d^2 / (n (n^2 - 1)), here d = 1, -1, 0, 1, -1.
    assert rank_correlation(one, np.array([20, 10, 30, 50, 40])) == pytest.approx(1 - 6 * 4 / 120)
    # With ties: Pearson of ranks 1.5, 1.5, 3 and 1, 2, 3.
    assert rank_correlation(np.array([7, 7, 8]), np.array([1, 2, 3])) == pytest.approx(np.sqrt(0.75))
    with pytest.raises(ValueError, match="all values are equal"):
        rank_correlation(one, np.ones(5))


def test_auc_is_the_share_of_pairs_in_order() -> None:
    draw = np.random.default_rng(0)
    positives, scores = draw.random(60) < 0.3, draw.integers(0, 8, 60)  # many ties
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positives] for b in scores[~positives]]
    assert auc(positives, scores) == pytest.approx(np.mean(pairs))
    assert placements(positives, scores)[~positives].mean() == pytest.approx(np.mean(pairs))
    assert auc(positives, positives * 1.0) == 1
    assert auc(positives, -1.0 * positives) == 0
    with pytest.raises(ValueError, match="0 positives and 4 negatives"):
        auc(np.zeros(4), np.arange(4))

"""R@K by hand."""

import numpy as np
import pytest
from lavit_scoring.metrics.recall import first_hits, recall_at


def test_ties_count_against_retrieval() -> None:
    scores = np.array([[0.5, 0.5, 0.1], [0.9, 0.2, 0.3]])
    ranks = first_hits(scores, [[0], [1, 2]])
    assert ranks.tolist() == [1, 1]
    assert recall_at(ranks)["r@1"].tolist() == [False, False]
    assert recall_at(ranks)["r@5"].tolist() == [True, True]
    with pytest.raises(ValueError, match="finite"):
        first_hits(np.array([[np.nan]]), [[0]])

"""Average precision and F1 by hand."""

import pytest
from lavit_scoring.metrics.average_precision import average_precision, f1_score


def test_average_precision_and_f1() -> None:
    import numpy as np

    positives = np.array([True, False, True, False])
    # Ranked T F T F: precision 1 at recall 1/2, 2/3 at recall 1.
    assert average_precision(positives, np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # All scores equal are one threshold: the share of positives.
    assert average_precision(positives, np.full(4, 0.5)) == pytest.approx(0.5)
    assert f1_score(positives, np.array([True, True, False, False])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no positive example"):
        average_precision(np.zeros(3, dtype=bool), np.zeros(3))

"""KID on features with a known shift."""

import numpy as np
import pytest
from lavit_evaluation.image_metrics.kid import kid, polynomial_mmd


def features(count: int, width: int = 16, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width))
    return (rng.normal(size=(count, width)) @ mixing + shift).astype(np.float32)


def test_kid_is_unbiased_and_finds_a_shift() -> None:
    one, other = features(60, 4), features(60, 4, seed=1)
    x, y = one.astype(np.float64), other.astype(np.float64)
    kernel = lambda a, b: (a @ b / 4 + 1) ** 3  # noqa: E731
    pairs = [(i, j) for i in range(60) for j in range(60)]
    expected = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs if i != j) / (60 * 59)
    expected -= 2 * sum(kernel(x[i], y[j]) for i, j in pairs) / 3600
    assert polynomial_mmd(one, other) == pytest.approx(expected, rel=1e-9)
    same = np.array([polynomial_mmd(features(60, 4, seed=2 * n), features(60, 4, seed=2 * n + 1)) for n in range(200)])
    assert abs(same.mean()) < 4 * same.std() / np.sqrt(200)  # unbiased: zero on average between equal distributions
    moved = features(60, 4, shift=3.0, seed=5)
    assert kid(one, moved, seed=0).mean() > 3 * abs(same).max() > 0
    assert np.array_equal(kid(one, moved, seed=0), kid(one, moved, seed=0))

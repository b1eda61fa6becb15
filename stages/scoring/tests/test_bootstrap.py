"""Resampling draws images, and equal rows together."""

import numpy as np
from lavit_scoring.bootstrap import interval_of_mean, resampled_sums


def test_bootstrap_draws_images_not_questions() -> None:
    values, images = [1.0] * 100 + [0.0] * 100, [0] * 100 + [1] * 100
    assert interval_of_mean(values, images, 0, "x") == (0.0, 1.0)  # two images: anything is possible
    low, high = interval_of_mean(values, range(200), 0, "x")
    assert 0.42 < low < 0.45 < 0.55 < high < 0.58  # 200 images: 0.5 +- 0.069
    assert interval_of_mean(values, range(200), 0, "x") == (low, high)


def test_bootstrap_of_equal_rows_is_that_of_rows() -> None:
    parts = np.array([[1.0, 1.0]] * 30 + [[0.0, 1.0]] * 70)
    drawn = resampled_sums(parts, 0, "x", resamples=4000)
    rng = np.random.default_rng(1)
    plain = np.array([parts[rng.integers(0, 100, 100)].sum(0) for _ in range(4000)])
    assert drawn[:, 1].tolist() == [100.0] * 4000
    # Standard error of the mean of 4,000 draws with deviation 4.6 is 0.07; of the deviation 0.05.
    assert abs(drawn[:, 0].mean() - plain[:, 0].mean()) < 0.4
    assert abs(drawn[:, 0].std() - plain[:, 0].std()) < 0.3

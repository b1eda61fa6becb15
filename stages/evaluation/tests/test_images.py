"""PSNR by hand, and random codes."""

import numpy as np
import pytest
from lavit_evaluation.shapes.images import psnr, random_codes


def test_psnr_and_random_codes() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    drawn = black.copy()
    drawn[1] += 255
    assert psnr(drawn, black) == pytest.approx([99.0, 0.0])
    codes = random_codes([3, 0, 5], 10, seed=1)
    assert [len(some) for some in codes] == [3, 0, 5]
    assert np.array_equal(codes[2], random_codes([3, 0, 5], 10, seed=1)[2])

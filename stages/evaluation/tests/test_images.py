"""Random codes."""

import numpy as np
from lavit_evaluation.shapes.images import random_codes


def test_random_codes() -> None:
    codes = random_codes([3, 0, 5], 10, seed=1)
    assert [len(some) for some in codes] == [3, 0, 5]
    assert np.array_equal(codes[2], random_codes([3, 0, 5], 10, seed=1)[2])

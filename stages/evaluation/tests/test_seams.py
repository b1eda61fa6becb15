"""Steps across borders and within patches, by hand."""

import numpy as np
import pytest
from lavit_evaluation.tokenizing.seams import mean_steps


def test_patches_of_one_colour_have_all_their_steps_at_borders() -> None:
    cells = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3))
    pixels = cells.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)
    across = (np.abs(np.diff(cells, axis=1)).sum((1, 2, 3)) + np.abs(np.diff(cells, axis=2)).sum((1, 2, 3))) / (2 * 36)
    found = mean_steps(pixels, (4, 4))
    assert found[:, 0] == pytest.approx(across / 255)
    assert found[:, 1].tolist() == [0, 0]


def test_a_ramp_has_no_seams_and_a_step_at_a_border_is_one() -> None:
    ramp = np.tile(np.arange(12, dtype=np.uint8)[None, None, :, None], (1, 12, 1, 3))
    across, within = mean_steps(ramp, (3, 3))[0]
    assert across == within == pytest.approx(0.5 / 255)  # one to the right, none down
    ramp[:, :, 4:] += 11  # the first border of three is crossed by 12
    across, within = mean_steps(ramp, (3, 3))[0]
    assert within == pytest.approx(0.5 / 255)
    assert across == pytest.approx((12 + 1) / 4 / 255)


def test_oblong_grids_and_sizes_that_patches_do_not_divide() -> None:
    pixels = np.zeros((1, 10, 10, 3), dtype=np.uint8)
    pixels[:, :, 4:] = 255  # columns of 3 patches of 10 pixels begin at 0, 4 and 7
    across, within = mean_steps(pixels, (1, 3))[0]
    assert (across, within) == (0.5, 0)
    assert np.isnan(mean_steps(pixels, (1, 1))[0, 0])

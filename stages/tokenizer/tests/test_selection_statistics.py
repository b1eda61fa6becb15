"""Detail of patches, and how much of the keep probabilities the place explains, against plain formulas."""

import numpy as np
import pytest
from lavit_tokenizer.selection_statistics import detail_of_kept, patch_detail, place_explained


def test_detail_is_the_spread_around_a_patchs_own_colour():
    pixels = np.zeros((1, 5, 9, 3), dtype=np.uint8)  # patches of 2 x 4; the last row and column belong to none
    pixels[:, 4:], pixels[:, :, 8:] = 255, 255
    pixels[0, :2, :4] = (255, 0, 0)  # one colour: no detail
    pixels[0, :2, 4:6, 1] = 255  # half of one channel of three: sqrt(0.25 / 3)
    draw = np.random.default_rng(0).integers(0, 256, (2, 4, 3), dtype=np.uint8)
    pixels[0, 2:4, :4] = draw
    detail = patch_detail(pixels, (2, 2))[0]
    spread = np.sqrt(np.mean([(draw[..., c] / 255 - (draw[..., c] / 255).mean()) ** 2 for c in range(3)]))
    assert detail == pytest.approx([0, np.sqrt(0.25 / 3), spread, 0])


def test_detail_of_kept_and_dropped_patches():
    detail, keep = np.array([[0.4, 0.2], [0.1, 0.3]]), np.array([[True, False], [True, True]])
    assert detail_of_kept(detail, keep) == pytest.approx((0.8 / 3, 0.2))
    assert detail_of_kept(detail, np.ones_like(keep)) == (pytest.approx(0.25), None)


def test_place_explains_all_nothing_or_half():
    by_place = np.tile([0.1, 0.9, 0.1, 0.9], (50, 1))
    assert place_explained(by_place) == pytest.approx(1)
    by_image = np.tile([[0.1], [0.9]], (25, 4))
    assert place_explained(by_image) == pytest.approx(0)
    # The sum of two independent parts of equal variance.
    assert place_explained((by_place + by_image) / 2) == pytest.approx(0.5)
    assert place_explained(np.full((3, 4), 0.2)) is None

"""Pixel distances and SSIM, each against a plain formula."""

import numpy as np
import pytest
from lavit_scoring.metrics.pixels import l1_distance, l2_distance, psnr, ssim


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_pixel_distances_by_hand() -> None:
    black, grey = np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 3), 51, np.uint8)
    assert l1_distance(black, grey) == pytest.approx(0.2)
    assert l2_distance(black, grey) == pytest.approx(0.04)
    assert l1_distance(grey, black) == l1_distance(black, grey)


def test_psnr_by_hand() -> None:
    black = np.zeros((3, 4, 5, 3), np.uint8)
    drawn = black.copy()
    drawn[1] += 255
    drawn[2, 0, 0] = 51  # one of 20 pixels is a fifth away: mean square 0.04 / 20
    assert psnr(drawn, black) == pytest.approx([99.0, 0.0, 10 * np.log10(500)])


def test_ssim_against_its_definition_window_by_window() -> None:
    one, other = noise(0, 13, 14), noise(1, 13, 14)
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / 4.5)
    window /= window.sum()
    found = []
    for top in range(3):
        for left in range(4):
            for colour in range(3):
                x, y = (p[top : top + 11, left : left + 11, colour] / 255.0 for p in (one, other))
                mx, my = (window * x).sum(), (window * y).sum()
                vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                cov = (window * (x - mx) * (y - my)).sum()
                found.append((2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert ssim(one, other) == pytest.approx(np.mean(found), abs=1e-12)
    assert ssim(one, one) == pytest.approx(1)

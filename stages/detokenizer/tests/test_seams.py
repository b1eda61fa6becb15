"""Seams between the squares of a drawn image."""

import numpy as np
import torch
from lavit_detokenizer.config import DrawSettings
from lavit_detokenizer.draw import draw
from lavit_detokenizer.seams import smooth_seams

from .conftest import random_detokenizer


def grey(rows: np.ndarray) -> torch.Tensor:
    """Return grey levels [h, w] as one image in [-1, 1]."""
    return torch.from_numpy(rows).float().expand(1, 3, *rows.shape) / 127.5 - 1


def levels(image: torch.Tensor) -> np.ndarray:
    """Return the grey levels of the first channel."""
    return ((image[0, 0] + 1) * 127.5).round().numpy()


def test_a_faint_step_between_squares_is_smoothed_and_an_edge_is_not():
    seam, edge, inside = np.full((8, 16), 100.0), np.full((8, 16), 100.0), np.full((8, 16), 100.0)
    seam[:, 8:], edge[:, 8:], inside[:, 5:] = 116, 200, 116
    assert levels(smooth_seams(grey(seam), 8, 6))[0, 6:10].tolist() == [100, 106, 110, 116]
    for kept in (edge, inside):
        assert (levels(smooth_seams(grey(kept), 8, 6)) == kept).all()
    # Rows are treated as columns are.
    assert (smooth_seams(grey(seam.T), 8, 6) == smooth_seams(grey(seam), 8, 6).transpose(-1, -2)).all()


def test_what_changes_beside_the_border_is_no_seam():
    ramp = np.tile(np.concatenate([np.linspace(100, 121, 8), np.linspace(124, 145, 8)]), (8, 1))
    assert np.abs(levels(smooth_seams(grey(ramp), 8, 6)) - ramp.round()).max() <= 1
    stripes = np.tile(
        np.array([100, 100, 100, 100, 100, 100, 100, 112, 100, 112, 100, 100, 100, 100, 100, 100.0]), (8, 1)
    )
    assert (levels(smooth_seams(grey(stripes), 8, 6)) == stripes).all()


def test_a_detokenizer_smooths_what_it_draws():
    plain, smooth = random_detokenizer(), random_detokenizer(seam_levels=20.0)
    features, settings = torch.randn(2, 16, 16), DrawSettings(num_steps=2)
    rough, drawn = (draw(made, features, seeds=[0, 1], settings=settings) for made in (plain, smooth))
    side = plain.config.unshuffle
    beside = np.isin(np.arange(rough.shape[1]) % side, (0, side - 1))
    changed = (rough != drawn).any(axis=(0, 3))
    assert changed.any()
    assert not changed[~beside][:, ~beside].any()

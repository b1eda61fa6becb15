"""Training images from memory and from disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError
from lavit_core.images import Preprocessing
from lavit_trainkit.pixels import Pixels, normalise
from PIL import Image


def test_pixels_from_memory_equal_pixels_from_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for index in range(5):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(rng.integers(0, 255, (20, 12, 3), dtype=np.uint8)).save(paths[-1])
    kept, read = Pixels(paths, 8), Pixels(paths, 8, cache_bytes=0)
    assert torch.equal(kept.batch([4, 0]), read.batch([4, 0]))
    assert kept.batch([1]).shape == (1, 8, 8, 3)
    scaled = normalise(kept.batch([0]), Preprocessing(image_px=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    assert scaled.shape == (1, 3, 8, 8)
    assert scaled.abs().max() <= 1


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(InputError, match=r"page\.jpg.*lavit data inspect"):
        Pixels([tmp_path / "page.jpg"], 8)

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


def test_warnings_about_images_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker" * 20
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    content[content.index(b"Exif") + 14] = 99  # many entries, few bytes
    (tmp_path / "a.jpg").write_bytes(content)
    pixels = Pixels([tmp_path / "a.jpg"] * 20, 8, cache_bytes=0)
    pixels.batch(range(20))
    pixels.batch(range(20))
    printed = capfd.readouterr().err.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith("warning: images were read with warnings (20 times: Corrupt EXIF data")

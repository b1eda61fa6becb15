"""Object masks: how much of a patch an object covers, what is kept of it, and masks that can't be."""

from pathlib import Path

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_evaluation.tokenizing.masks import kept_by_cover, patch_cover, read_covers
from PIL import Image


def save(file: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(file)


def test_cover_follows_the_mask_to_the_encoders_square() -> None:
    shown = np.zeros((16, 32), dtype=bool)  # twice as wide as high
    shown[:8, :16] = True  # the upper left quarter
    assert patch_cover(shown, 8, (2, 2)).tolist() == [1, 0, 0, 0]
    assert patch_cover(shown, 8, (1, 2)).tolist() == [0.5, 0]
    shown[8:, 16:20] = True  # a quarter of the lower right quarter
    assert patch_cover(shown, 64, (2, 2)) == pytest.approx([1, 0, 0, 0.25])


def test_shares_kept_of_object_edge_and_ground() -> None:
    covers = np.array([[1.0, 0.91, 0.9, 0.02], [0.0, 0.0, 0.01, 0.5]])
    keep = np.array([[True, False, True, True], [True, False, True, False]])
    kept = {name.removeprefix("selection.kept_of_"): one for name, one in kept_by_cover(keep, covers).items()}
    assert {name: (one.value, one.n) for name, one in kept.items()} == {
        "object": (pytest.approx(3 / 5), 5),
        "object_inner": (0.5, 2),
        "object_edge": (pytest.approx(2 / 3), 3),
        "ground": (0.5, 2),  # a patch with a hundredth of object is neither
    }


def test_masks_are_found_by_stem(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.full((5, 7), 255, dtype=np.uint8))
    save(tmp_path / "b.png", np.zeros((9, 3), dtype=np.uint8))
    covers = read_covers(tmp_path, ["images/a.jpg", "other/b.webp"], 16, (4, 4))
    assert covers.tolist() == [[1] * 16, [0] * 16]


def test_wrong_masks_are_one_clear_line(tmp_path: Path) -> None:
    def fails(*keys: str) -> str:
        with pytest.raises(InputError) as found:
            read_covers(tmp_path, keys, 16, (4, 4))
        assert "\n" not in str(found.value)
        return str(found.value)

    save(tmp_path / "a.png", np.ones((4, 4), dtype=np.uint8))
    assert "no mask for 2 of 3 images, first for images/b.png; expected b.png" in fails(
        "a.png", "images/b.png", "c.png"
    )
    assert "the largest value is 1, expected 255" in fails("a.png")
    save(tmp_path / "c.png", np.zeros((4, 4, 3), dtype=np.uint8))
    assert "c.png: a PNG of mode RGB, expected an 8-bit grey one" in fails("c.png")
    (tmp_path / "d.png").write_bytes(b"nothing")
    assert "d.png: not a readable PNG" in fails("d.png")
    assert "2 images are called a" in fails("one/a.png", "other/a.png")

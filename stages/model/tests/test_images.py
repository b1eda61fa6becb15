"""Images as callers give them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lavit.images import as_list, square_images
from lavit_core.errors import InputError
from PIL import Image


def test_every_kind_of_image_gives_the_same_pixels(images, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(images[0]).save(file)
    given = [images[0], torch.from_numpy(images[0]), Image.fromarray(images[0]), file, str(file)]
    assert (square_images(given, 16) == images[0]).all()
    large = Image.fromarray(images[0]).resize((40, 24), Image.Resampling.NEAREST)
    assert (
        square_images([np.asarray(large)], 16)[0] == np.asarray(large.resize((16, 16), Image.Resampling.BICUBIC))
    ).all()
    transparent = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    assert (square_images([transparent], 16) == 255).all()


def test_one_image_several_and_a_batch(images, tmp_path: Path) -> None:
    assert len(as_list(images)) == len(as_list(torch.from_numpy(images))) == len(as_list(list(images))) == 5
    assert len(as_list(images[0])) == len(as_list(tmp_path)) == len(as_list("a.png")) == 1
    assert len(as_list((images[0], "a.png"))) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 4, 3)), r"images\[2\]: found ndarray float64 \[4, 4, 3\], expected a PIL image, a path, or"),
        (np.zeros((4, 4), np.uint8), r"images\[2\]: found ndarray uint8 \[4, 4\]"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"images\[2\]: found Tensor uint8 \[3, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), r"images\[2\]: found no pixels"),
        (None, r"images\[2\]: found NoneType"),
        (Path("gone.png"), r"gone\.png: file not found"),
    ],
)
def test_other_things_are_refused(given, message: str) -> None:
    with pytest.raises(InputError, match=message):
        square_images([given], 16, first=2)


@pytest.mark.parametrize("given", [[], np.zeros((0, 4, 4, 3), np.uint8)])
def test_no_image_is_refused(given) -> None:
    with pytest.raises(InputError, match="images: found none, expected"):
        as_list(given)


@pytest.mark.parametrize("given", [None, 3, np.zeros(3)])
def test_no_sequence_is_refused(given) -> None:
    with pytest.raises(InputError, match=r"images: found .*, expected a PIL image"):
        as_list(given)

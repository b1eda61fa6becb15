"""Images of several sizes from one model."""

import numpy as np
import pytest
from lavit import LaVIT
from lavit_core.errors import UsageError
from PIL import Image

from .drawings import DRAWING


def test_each_size_is_drawn_and_others_are_refused(sized_folder) -> None:
    model = LaVIT.from_pretrained(sized_folder)
    assert (model.draw_size(), model.draw_sizes()) == ((16, 16), [(16, 16), (16, 24), (24, 16)])
    for size, expected in (("24x16", (24, 16)), ("16x24", (16, 24)), (None, (16, 16))):
        drawing = model.draw_settings(num_steps=2, size=size)
        [image] = model.generate("a red circle", seeds=3, drawing=drawing)
        assert image.size == expected
    with pytest.raises(UsageError, match="--size 32x16: this detokenizer draws 16x16, 24x16, 16x24 px only"):
        model.generate("a red circle", drawing=model.draw_settings(size="32x16"))


def test_reconstructions_have_the_shape_of_their_images(sized_folder) -> None:
    model, random = LaVIT.from_pretrained(sized_folder), np.random.default_rng(0)
    sizes = [(60, 40), (20, 20), (10, 15), (31, 20)]
    images = [Image.fromarray(random.integers(0, 256, (high, wide, 3), dtype=np.uint8)) for wide, high in sizes]
    found = model.reconstruct(images, seeds=5, settings=DRAWING)
    assert [image.size for image in found] == [(24, 16), (16, 16), (16, 24), (24, 16)]
    assert [image.size for image in model.reconstruct([np.asarray(one) for one in images])] == [
        image.size for image in found
    ]
    # Drawn together by size, each is what it is alone.
    for image, seed, expected in zip(images, range(5, 9), found, strict=True):
        [alone] = model.reconstruct(image, seeds=seed, settings=DRAWING)
        assert np.abs(np.asarray(alone).astype(int) - np.asarray(expected)).max() <= 1
    asked = model.draw_settings(size="16x16")
    assert {image.size for image in model.reconstruct(images, settings=asked)} == {(16, 16)}


def test_settings_are_one_or_one_an_image(sized_folder) -> None:
    model, codes = LaVIT.from_pretrained(sized_folder), [np.array([1, 2]), np.array([3])]
    wide, high = (model.draw_settings(num_steps=2, size=size) for size in ("24x16", "16x24"))
    assert [image.size for image in model.decode(codes, settings=[wide, high])] == [(24, 16), (16, 24)]
    with pytest.raises(UsageError, match="settings: found 1, expected 2, one an image"):
        model.decode(codes, settings=[wide])


def test_a_model_of_one_size_draws_it_whatever_is_read(folders) -> None:
    model, image = LaVIT.from_pretrained(folders["codes"]), Image.new("RGB", (60, 20), "red")
    assert model.draw_sizes() == [(16, 16)]
    assert model.fitting_settings(image, DRAWING) == [DRAWING]
    [found] = model.reconstruct(image, settings=DRAWING)
    assert found.size == (16, 16)

"""Sizes of the images that a detokenizer draws."""

from typing import get_args

import pytest
import torch
from lavit_core.errors import UsageError
from lavit_detokenizer.config import AspectRatio, ConditionShape, DetokenizerConfig, DrawSettings
from lavit_detokenizer.draw import draw
from lavit_detokenizer.sizes import drawn_sizes, fitting_settings, image_size, model_image_size, model_sizes

from .conftest import SDXL, TWO_LEVELS, random_detokenizer


def test_the_published_sizes():
    published = DetokenizerConfig(image_px=1024, condition=ConditionShape(pooled_dim=1280))
    sizes = {ratio: image_size(published, DrawSettings(aspect_ratio=ratio)) for ratio in get_args(AspectRatio)}
    # ratio_dict of the released README, (height, width).
    assert sizes == {"1:1": (1024, 1024), "4:3": (896, 1152), "3:2": (832, 1216), "16:9": (768, 1344),
                     "2:3": (1216, 832), "3:4": (1152, 896)}  # fmt: skip
    assert image_size(DetokenizerConfig(), DrawSettings()) == (512, 512)
    assert drawn_sizes(published) == list(sizes.values())
    # Asked for by ratio or by size, it is the same.
    assert image_size(published, DrawSettings(size="1152x896")) == sizes["4:3"]
    assert DrawSettings().aspect_ratio == "1:1"
    with pytest.raises(ValueError, match="size 1152x896 and aspect_ratio 4:3: expected one of the two"):
        DrawSettings(size="1152x896", aspect_ratio="4:3")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"unet": TWO_LEVELS, "condition": {"cross_dims": (8,)}},
        {"unet": TWO_LEVELS, "condition": {**SDXL["condition"], "kind": "both"}},
    ],
)
def test_other_detokenizers_draw_their_square_only(changes):
    made = random_detokenizer(**changes)
    with pytest.raises(UsageError, match=r"--aspect-ratio 4:3: this detokenizer draws 16 x 16 px only; other shapes"):
        draw(made, torch.randn(1, 16, 16), seeds=[0], settings=DrawSettings(num_steps=1, aspect_ratio="4:3"))


def test_the_size_of_a_model_needs_no_weights(trained):
    assert model_image_size(trained, "detokenizer", DrawSettings()) == (16, 16)
    assert model_sizes(trained, "detokenizer") == [(16, 16)]
    with pytest.raises(UsageError, match="draws 16 x 16 px only"):
        model_image_size(trained, "detokenizer", DrawSettings(aspect_ratio="4:3"))


def test_sizes_that_were_not_trained_are_refused_with_those_that_were():
    square, trained = DetokenizerConfig(image_px=64), DetokenizerConfig(sizes=("80x48", "64x64"))
    assert image_size(square, DrawSettings(size="64x64")) == (64, 64)
    assert (image_size(trained, DrawSettings()), image_size(trained, DrawSettings(size="64x64"))) == (
        (48, 80),
        (64, 64),
    )
    with pytest.raises(UsageError, match=r"^--size 80x48: this detokenizer draws 64x64 px only$"):
        image_size(square, DrawSettings(size="80x48"))
    with pytest.raises(UsageError, match=r"^--size 48x80: this detokenizer draws 80x48, 64x64 px only$"):
        image_size(trained, DrawSettings(size="48x80"))


def test_an_image_is_redrawn_at_the_trained_size_nearest_to_its_shape():
    trained, images = DetokenizerConfig(sizes=("64x64", "80x48", "48x80")), [(30, 50), (50, 30), (31, 30)]
    pace = DrawSettings(num_steps=3)
    found = fitting_settings(trained, pace, images)
    assert [one.size for one in found] == ["80x48", "48x80", "64x64"]
    assert all(one.num_steps == 3 for one in found)
    asked = DrawSettings(size="64x64")
    assert fitting_settings(trained, asked, images) == [asked] * 3
    assert fitting_settings(DetokenizerConfig(), pace, images) == [pace] * 3
    # A ratio is not ignored: it is refused, as it is where no image is given.
    wide = DrawSettings(aspect_ratio="4:3")
    assert fitting_settings(trained, wide, images) == [wide] * 3
    with pytest.raises(UsageError, match="--aspect-ratio 4:3: this detokenizer draws 64x64, 80x48, 48x80 px; ask with"):
        image_size(trained, fitting_settings(trained, wide, images)[0])

"""Sizes of the images that a detokenizer draws."""

from typing import get_args

import pytest
import torch
from lavit_core.errors import UsageError
from lavit_detokenizer.config import AspectRatio, ConditionShape, DetokenizerConfig, DrawSettings
from lavit_detokenizer.draw import draw
from lavit_detokenizer.sizes import image_size, model_image_size

from .conftest import SDXL, TWO_LEVELS, random_detokenizer


def test_the_published_sizes():
    published = DetokenizerConfig(image_px=1024, condition=ConditionShape(pooled_dim=1280))
    sizes = {ratio: image_size(published, ratio) for ratio in get_args(AspectRatio)}
    # ratio_dict of the released README, (height, width).
    assert sizes == {"1:1": (1024, 1024), "4:3": (896, 1152), "3:2": (832, 1216), "16:9": (768, 1344),
                     "2:3": (1216, 832), "3:4": (1152, 896)}  # fmt: skip
    assert image_size(DetokenizerConfig(), "1:1") == (512, 512)
    assert DrawSettings().aspect_ratio == "1:1"


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
    assert model_image_size(trained, "detokenizer", "1:1") == (16, 16)
    with pytest.raises(UsageError, match="draws 16 x 16 px only"):
        model_image_size(trained, "detokenizer", "4:3")

"""The denoiser, its inputs, and the way from images to samples and back."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from lavit_core.config import load_preset, resolve
from lavit_core.errors import UsageError
from lavit_detokenizer.config import TrainDetokenizerConfig
from lavit_detokenizer.network import to_sample
from lavit_detokenizer.unet import unet_arguments

from .conftest import SDXL, TWO_LEVELS, random_detokenizer


def test_pixels_survive_the_way_to_the_unet_and_back():
    made = random_detokenizer()
    pixels = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    sample = to_sample(pixels, 4)
    assert sample.shape == (2, *made.sample_shape) == (2, 48, 4, 4)
    assert torch.equal(made.to_pixels(sample), pixels)


def test_the_null_branch_does_not_see_the_features():
    for changes in (
        {},
        {"unet": TWO_LEVELS, "condition": {"kind": "both", "cross_dims": (8,), "map_channels": 4}},
        {"unet": TWO_LEVELS, "condition": {"cross_dims": (8, 16), "pooled_dim": 16, "pooled_heads": 2}},
    ):
        made = random_detokenizer(**changes)
        sample, levels, dropped = torch.randn(2, 48, 4, 4), torch.tensor([500, 20]), torch.tensor([True, False])
        one, other = (made.denoiser(sample, levels, torch.randn(2, 16, 16), dropped) for _ in range(2))
        torch.testing.assert_close(one[0], other[0])
        assert not torch.allclose(one[1], other[1])


def test_sizes_that_do_not_divide_are_refused(vae_folder):
    made = random_detokenizer(vae_folder, **{**SDXL, "image_px": 48})
    assert made.shape_of((38, 56)) == (2, 19, 28)
    with pytest.raises(UsageError, match="images of 57x39 px: expected multiples of the downsampling factor 2"):
        made.shape_of((39, 57))
    with pytest.raises(UsageError, match="setting image_px: 33 is not a multiple of the VAE's factor 2"):
        random_detokenizer(vae_folder, **{**SDXL, "image_px": 33})


@pytest.mark.parametrize(
    ("preset", "millions", "side"), [("published", 860, 64), ("published-sdxl", 2567, 128), ("tiny", 2.04, 8)]
)
def test_presets_have_the_known_sizes(preset, millions, side):
    config = resolve(TrainDetokenizerConfig, preset=load_preset("lavit_detokenizer", "train-detokenizer", preset))
    sample = (4, side, side) if config.space == "latent" else (192, side, side)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_arguments(config.detokenizer(1408, (16, 16)), config.unet, sample))
    found = sum(parameter.numel() for parameter in unet.parameters()) / 1e6
    assert found == pytest.approx(millions, rel=0.02)

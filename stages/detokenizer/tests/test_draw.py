"""Drawing: guidance, seeds, sizes, and codes against their decoded features."""

from typing import get_args

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError, UsageError
from lavit_core.tokens import open_tokens
from lavit_detokenizer.config import AspectRatio, DrawSettings
from lavit_detokenizer.draw import branches, denoise, draw, draw_codes, draw_codes_steps, guided
from lavit_detokenizer.folder import load_detokenizer
from lavit_detokenizer.sizes import image_size
from lavit_tokenizer.api import load_tokenizer

from .conftest import ONE_LEVEL, SDXL, random_detokenizer


def guided_by(made, sample, level, features, scale, **size):
    return guided(made, sample, level, branches(made, features, scale, grid=tuple(sample.shape[-2:])), scale, **size)


def test_the_condition_is_made_once_a_drawing():
    made, calls = random_detokenizer(), []
    made.denoiser.condition.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    draw(made, torch.randn(2, 16, 16), seeds=[1, 2], settings=DrawSettings(num_steps=3))
    assert calls == [4]


def test_guidance_is_one_batch_of_both_branches():
    made = random_detokenizer()
    sample, features, level = torch.randn(3, 48, 4, 4), torch.randn(3, 16, 16), torch.tensor(500)
    conditional = made.denoiser(sample, level.expand(3), features, torch.zeros(3, dtype=torch.bool))
    null = made.denoiser(sample, level.expand(3), features, torch.ones(3, dtype=torch.bool))
    batches = []
    made.denoiser.unet.register_forward_pre_hook(lambda module, inputs: batches.append(len(inputs[0])))
    torch.testing.assert_close(guided_by(made, sample, level, features, 1.0), conditional)
    assert batches == [3]
    torch.testing.assert_close(guided_by(made, sample, level, features, 3.0), null + 3 * (conditional - null))
    torch.testing.assert_close(guided_by(made, sample, level, features, 0.0), null)
    assert batches == [3, 6, 6]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_an_image_depends_on_its_own_seed_only(sampler):
    made = random_detokenizer(unet={**ONE_LEVEL, "block_out_channels": (8,)})
    features = torch.randn(5, 16, 16)
    how = DrawSettings(num_steps=4, guidance_scale=2.0, sampler=sampler)
    together = denoise(made, features, seeds=[1, 2, 3, 4, 5], settings=how)
    for place in range(5):
        alone = denoise(made, features[place : place + 1], seeds=[place + 1], settings=how)
        # fp32 convolutions of another batch size may add in another order.
        torch.testing.assert_close(together[place : place + 1], alone, rtol=1e-4, atol=1e-4)
    again = denoise(made, features.flip(0), seeds=[5, 4, 3, 2, 9], settings=how).flip(0)
    torch.testing.assert_close(together[1:], again[1:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[0], again[0], atol=1e-2)


def test_codes_are_drawn_as_their_decoded_features(world, trained):
    tokenizer = load_tokenizer(trained, device="cpu", use="decode")
    made, how = load_detokenizer(trained, device="cpu"), DrawSettings(num_steps=2, batch_size=2)
    codes, counts = open_tokens(world / "tokens").codes(np.arange(3))
    features = tokenizer.decode_codes(torch.from_numpy(codes), torch.from_numpy(counts))
    each = np.split(codes, np.cumsum(counts)[:-1])
    found = draw_codes(made, tokenizer, each, seeds=[4, 5, 6], settings=how)
    expected = draw(made, features, seeds=[4, 5, 6], settings=how)
    # fp32 sums of another batch size may move a value across one of 255 levels.
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    steps = list(draw_codes_steps(made, tokenizer, each, seeds=[4, 5, 6], settings=how))
    assert [(list(step.images), step.step, step.num_steps) for step in steps] == [
        ([0, 1], 1, 2), ([0, 1], 2, 2), ([2], 1, 2), ([2], 2, 2),
    ]  # fmt: skip
    assert [step.pixels is None for step in steps] == [True, False, True, False]
    assert np.array_equal(np.concatenate([steps[1].pixels, steps[3].pixels]), found)


@pytest.mark.parametrize("ratio", get_args(AspectRatio))
def test_sdxl_draws_every_shape_with_its_size_ids(vae_folder, ratio):
    made = random_detokenizer(vae_folder, **SDXL)
    height, width = image_size(made.config, DrawSettings(aspect_ratio=ratio))
    size_ids: list[torch.Tensor] = []
    made.denoiser.unet.register_forward_pre_hook(
        lambda module, inputs, named: size_ids.append(named["added_cond_kwargs"]["time_ids"]), with_kwargs=True
    )
    how = DrawSettings(num_steps=2, aspect_ratio=ratio)
    images = draw(made, torch.randn(2, 16, 16), seeds=[1, 2], settings=how)
    assert images.shape == (2, height, width, 3)
    # Original size, crop, target size, for both branches of both images alike.
    assert [ids.tolist() for ids in size_ids] == 2 * [4 * [[height, width, 0, 0, height, width]]]


def test_a_size_id_changes_the_image(vae_folder):
    made = random_detokenizer(vae_folder, **SDXL)
    sample, features, level = torch.randn(1, 2, 16, 16), torch.randn(1, 16, 16), torch.tensor(500)
    square, named, wide = (
        guided_by(made, sample, level, features, 3.0, size_px=size) for size in (None, (32, 32), (24, 42))
    )
    assert torch.equal(square, named)
    assert not torch.allclose(square, wide, atol=1e-3)


def test_a_shape_that_does_not_divide_is_refused(vae_folder):
    made = random_detokenizer(vae_folder, **{**SDXL, "image_px": 48})
    with pytest.raises(UsageError, match="images of 57x39 px: expected multiples of the downsampling factor 2"):
        draw(made, torch.randn(1, 16, 16), seeds=[0], settings=DrawSettings(num_steps=1, aspect_ratio="3:2"))


def test_more_steps_than_levels_of_noise_are_refused():
    with pytest.raises(UsageError, match="setting num_steps: 1001, expected at most 1000 levels of noise"):
        draw(random_detokenizer(), torch.randn(1, 16, 16), seeds=[0], settings=DrawSettings(num_steps=1001))


def test_wrong_features_are_refused():
    made = random_detokenizer()
    with pytest.raises(InputError, match=r"shape \(1, 9, 16\), expected \(1, 16, 16\)"):
        draw(made, torch.randn(1, 9, 16), seeds=[0], settings=DrawSettings())
    empty = draw(made, torch.randn(0, 16, 16), seeds=[], settings=DrawSettings())
    assert empty.shape == (0, 16, 16, 3)

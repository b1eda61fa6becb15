"""Noise, targets and guidance against plain references."""

from typing import get_args

import pytest
import torch
from lavit_core.config import resolve
from lavit_core.errors import UsageError
from lavit_detokenizer.config import AspectRatio, ConditionShape, DetokenizerConfig, DrawSettings, NoiseShape
from lavit_detokenizer.draw import denoise, draw, guided
from lavit_detokenizer.folder import load_vae
from lavit_detokenizer.network import build_scheduler, noisy_and_target, to_sample, training_scheduler
from lavit_detokenizer.sizes import image_size
from lavit_detokenizer.train_detokenizer import build, draw_dropped

from .conftest import ONE_LEVEL, TWO_LEVELS, settings

FEATURES = (16, (4, 4))


def random_detokenizer(**changes):
    torch.manual_seed(0)
    made = build(settings(**changes), FEATURES)
    made.denoiser.eval().requires_grad_(False)
    return made


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_targets_are_the_schedulers(kind):
    noise_shape = NoiseShape(prediction_type=kind)
    scheduler = training_scheduler(build_scheduler(noise_shape))
    clean, noise = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    levels = torch.tensor([0, 10, 400, 700, 999])
    noisy, target = noisy_and_target(scheduler, clean, noise, levels)
    # Stable Diffusion's "scaled linear" betas, from their definition.
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = torch.cumprod(1 - betas, dim=0)[levels].view(-1, 1, 1, 1)
    torch.testing.assert_close(noisy, kept.sqrt() * clean + (1 - kept).sqrt() * noise, rtol=1e-5, atol=1e-5)
    expected = {"epsilon": noise, "sample": clean, "v_prediction": kept.sqrt() * noise - (1 - kept).sqrt() * clean}
    torch.testing.assert_close(target, expected[kind], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_perfect_prediction_leads_back_to_the_image(kind):
    noise_shape = NoiseShape(prediction_type=kind, timestep_spacing="trailing")
    ddim = build_scheduler(noise_shape)
    scheduler = training_scheduler(ddim)
    clean, noise = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    ddim.set_timesteps(10)
    sample = scheduler.add_noise(clean, noise, ddim.timesteps[:1])
    for level in ddim.timesteps:
        target = noisy_and_target(scheduler, clean, noise, level[None])[1]
        sample = ddim.step(target, level, sample).prev_sample
    torch.testing.assert_close(sample, clean, rtol=1e-3, atol=1e-3)


def test_noise_alone_with_epsilon_is_refused():
    with pytest.raises(ValueError, match="the last level is noise alone"):
        NoiseShape(rescale_betas_zero_snr=True, prediction_type="epsilon")


def test_pixels_survive_the_way_to_the_unet_and_back():
    made = random_detokenizer()
    pixels = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    sample = to_sample(pixels, 4)
    assert sample.shape == (2, *made.sample_shape) == (2, 48, 4, 4)
    assert torch.equal(made.to_pixels(sample), pixels)


def test_guidance_is_one_batch_of_both_branches():
    made = random_detokenizer()
    sample, features, level = torch.randn(3, 48, 4, 4), torch.randn(3, 16, 16), torch.tensor(500)
    conditional = made.denoiser(sample, level.expand(3), features, torch.zeros(3, dtype=torch.bool))
    null = made.denoiser(sample, level.expand(3), features, torch.ones(3, dtype=torch.bool))
    batches = []
    made.denoiser.register_forward_pre_hook(lambda module, inputs: batches.append(len(inputs[0])))
    torch.testing.assert_close(guided(made, sample, level, features, 1.0), conditional)
    assert batches == [3]
    torch.testing.assert_close(guided(made, sample, level, features, 3.0), null + 3 * (conditional - null))
    torch.testing.assert_close(guided(made, sample, level, features, 0.0), null)
    assert batches == [3, 6, 6]


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


def test_conditions_are_dropped_as_often_as_asked():
    dropped = torch.cat([draw_dropped(50, 0.1, seed=3, step=step) for step in range(200)])
    assert abs(float(dropped.float().mean()) - 0.1) < 0.012  # 4 standard errors of 10,000 draws
    assert not draw_dropped(50, 0.0, seed=3, step=0).any()
    assert draw_dropped(50, 1.0, seed=3, step=0).all()
    assert torch.equal(draw_dropped(50, 0.5, seed=3, step=7), draw_dropped(50, 0.5, seed=3, step=7))


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


SDXL = {
    "space": "latent", "image_px": 32, "unet": TWO_LEVELS, "noise": {},
    "condition": {"cross_dims": (8, 16), "pooled_dim": 16, "pooled_heads": 2},
}  # fmt: skip


def test_the_published_sizes():
    published = DetokenizerConfig(image_px=1024, condition=ConditionShape(pooled_dim=1280))
    sizes = {ratio: image_size(published, ratio) for ratio in get_args(AspectRatio)}
    # ratio_dict of the released README, (height, width).
    assert sizes == {"1:1": (1024, 1024), "4:3": (896, 1152), "3:2": (832, 1216), "16:9": (768, 1344),
                     "2:3": (1216, 832), "3:4": (1152, 896)}  # fmt: skip
    assert image_size(DetokenizerConfig(), "1:1") == (512, 512)
    assert DrawSettings().aspect_ratio == "1:1"


@pytest.mark.parametrize("ratio", get_args(AspectRatio))
def test_sdxl_draws_every_shape_and_is_told_of_it(vae_folder, ratio):
    torch.manual_seed(0)
    made = build(settings(**SDXL), FEATURES, vae=load_vae(vae_folder))
    made.denoiser.eval().requires_grad_(False)
    height, width = image_size(made.config, ratio)
    told: list[torch.Tensor] = []
    made.denoiser.unet.register_forward_pre_hook(
        lambda module, inputs, named: told.append(named["added_cond_kwargs"]["time_ids"]), with_kwargs=True
    )
    how = DrawSettings(num_steps=2, aspect_ratio=ratio)
    images = draw(made, torch.randn(2, 16, 16), seeds=[1, 2], settings=how)
    assert images.shape == (2, height, width, 3)
    # Original size, crop, target size, for both branches of both images alike.
    assert [ids.tolist() for ids in told] == 2 * [4 * [[height, width, 0, 0, height, width]]]


def test_a_size_id_changes_the_image(vae_folder):
    torch.manual_seed(0)
    made = build(settings(**SDXL), FEATURES, vae=load_vae(vae_folder))
    sample, features, level = torch.randn(1, 2, 16, 16), torch.randn(1, 16, 16), torch.tensor(500)
    square, named, wide = (
        guided(made, sample, level, features, 3.0, size_px=size) for size in (None, (32, 32), (24, 42))
    )
    assert torch.equal(square, named)
    assert not torch.allclose(square, wide, atol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"unet": TWO_LEVELS, "condition": {"cross_dims": (8,)}},
        {"unet": TWO_LEVELS, "condition": {**SDXL["condition"], "kind": "both"}},
    ],
)
def test_others_draw_their_square_only(changes):
    made = random_detokenizer(**changes)
    with pytest.raises(UsageError, match=r"--aspect-ratio 4:3: this detokenizer draws 16 x 16 px only; other shapes"):
        draw(made, torch.randn(1, 16, 16), seeds=[0], settings=DrawSettings(num_steps=1, aspect_ratio="4:3"))


def test_more_steps_than_levels_of_noise_are_refused():
    with pytest.raises(UsageError, match="setting num_steps: 1001, expected at most 1000 levels of noise"):
        draw(random_detokenizer(), torch.randn(1, 16, 16), seeds=[0], settings=DrawSettings(num_steps=1001))


def test_sizes_that_do_not_divide_are_refused(vae_folder):
    made = build(settings(**{**SDXL, "image_px": 48}), FEATURES, vae=load_vae(vae_folder))
    with pytest.raises(UsageError, match="images of 39 x 57 px: expected multiples of the downsampling factor 2"):
        draw(made, torch.randn(1, 16, 16), seeds=[0], settings=DrawSettings(num_steps=1, aspect_ratio="3:2"))


def test_yaml_reads_a_ratio_as_a_number():
    with pytest.raises(UsageError, match="YAML reads 4:3 as a number; quote it"):
        resolve(DrawSettings, sets=["aspect_ratio=4:3"])
    assert resolve(DrawSettings, sets=['aspect_ratio="4:3"']).aspect_ratio == "4:3"
    with pytest.raises(UsageError, match=r"setting aspect_ratio: Input should be '1:1', '4:3', .* found '5:4'"):
        resolve(DrawSettings, flags={"aspect_ratio": "5:4"})

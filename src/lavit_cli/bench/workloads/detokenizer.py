"""The detokenizer: drawing beside diffusers' plain loop, training from stored latents beside encoding in every step.

The UNet attends to 256 features as Stable Diffusion's does to its words. Small: its widths and the VAE's are a fifth of
the published ones and have half their layers, at a quarter of their side; the VAE then takes less of a step than at
512 px (1.12 of 3.57 x 10^12 operations, `--full`). Weights are random.

Letters: B images, C channels, H, W = sides of the latents, P patches, D feature width.
"""

import copy
import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler
from lavit_detokenizer.api import (
    ConditionShape,
    Detokenizer,
    DrawSettings,
    TrainDetokenizerConfig,
    UNetShape,
    build_detokenizer,
    denoise,
    draw_noise,
    latent_moments,
    noisy_and_target,
    sample_latents,
    training_scheduler,
)
from lavit_trainkit.cached_rows import CachedRows
from lavit_trainkit.device import generator, seed_init
from lavit_trainkit.flops import forward_flops
from torch import Tensor

from lavit_cli.bench.comparison import Arm, BenchSettings, Comparison, equal_losses, equal_within
from lavit_cli.bench.machine import DTYPES
from lavit_cli.bench.workloads.goals import goal_here

PATCHES, WIDTH = 256, 1408
GUIDANCE = 7.0
LIMITS = {"fp32": 1e-4, "bf16": 5e-2}
"""Relative differences after all steps, which sums of another order, or bf16, may make."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Networks, and what they draw."""

    image_px: int
    unet: UNetShape
    vae_channels: tuple[int, ...]
    vae_layers: int
    groups: int
    steps: int
    drawn: int
    """Images drawn together."""
    trained: int
    """Images of a training step."""


SIZES = Sizes(
    image_px=128,
    unet=UNetShape(block_out_channels=(64, 128, 256, 256), layers_per_block=1, attention_head_dim=4),
    vae_channels=(24, 48, 96, 96),
    vae_layers=1,
    groups=8,
    steps=5,
    drawn=2,
    trained=2,
)
FULL_SIZES = Sizes(
    image_px=512, unet=UNetShape(), vae_channels=(128, 256, 512, 512), vae_layers=2, groups=32, steps=25, drawn=1,
    trained=8,
)  # fmt: skip


def compare(settings: BenchSettings) -> Iterator[Comparison]:
    """Yield drawing, and steps of training."""
    sizes = FULL_SIZES if settings.full else SIZES
    made = random_detokenizer(settings, sizes)
    for dtype in settings.dtypes:
        yield drawing(settings, sizes, made, dtype)
    yield training(settings, sizes, made)


def random_detokenizer(settings: BenchSettings, sizes: Sizes) -> Detokenizer:
    """Return a detokenizer in latent space, in fp32."""
    seed_init(settings.seed, "bench", "detokenizer")
    levels = len(sizes.vae_channels)
    vae = AutoencoderKL(
        block_out_channels=sizes.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        layers_per_block=sizes.vae_layers,
        norm_num_groups=sizes.groups,
        scaling_factor=0.18215,
    )
    config = TrainDetokenizerConfig(image_px=sizes.image_px, unet=sizes.unet, condition=ConditionShape())
    made = build_detokenizer(config, WIDTH, (16, 16), vae=vae.eval().requires_grad_(False))
    return made.to(settings.device)


def drawing(settings: BenchSettings, sizes: Sizes, made: Detokenizer, dtype: str) -> Comparison:
    """Return denoising in `dtype` against diffusers' loop in fp32: equal steps, equal noise."""
    count, side = sizes.drawn, made.sample_shape[-1]
    features_BPD = torch.randn(count, PATCHES, WIDTH, generator=generator(settings.seed, "bench", "features"))
    features_BPD = features_BPD.to(settings.device)
    how = DrawSettings(num_steps=sizes.steps, guidance_scale=GUIDANCE)
    low = dataclasses.replace(made, denoiser=copy.deepcopy(made.denoiser), precision=dtype)
    torch.nn.Module.to(low.denoiser.unet, DTYPES[dtype])  # diffusers' own would warn of layers that it does not have

    def ours() -> Tensor:
        with torch.no_grad():
            return denoise(low, features_BPD, seeds=range(count), settings=how)

    inputs = torch.zeros(2 * count, *made.sample_shape), torch.zeros(2 * count)
    condition = torch.zeros(2 * count, PATCHES, sum(made.config.condition.cross_dims))
    with torch.device("meta"):
        unet = type(made.denoiser.unet).from_config(made.denoiser.unet.config)
    flops = sizes.steps * forward_flops(lambda: unet(*(one.to("meta") for one in (*inputs, condition))))
    return Comparison(
        name="denoising with guidance",
        size=f"{count} images of {side} x {side} latents, {sizes.steps} steps, UNet of "
        f"{sum(one.numel() for one in made.denoiser.unet.parameters()) / 1e6:.0f} M parameters",
        dtype=dtype,
        baseline=Arm(name="diffusers' loop, fp32", run=lambda: plain_loop(made, features_BPD, sizes.steps)),
        ours=Arm(name=f"ours, {dtype}", run=ours),
        equal=equal_within(LIMITS[dtype]),
        unit="images",
        amount=count,
        flops=flops,
        goal=goal_here(2.0, settings) if dtype == "bf16" else None,
    )


@torch.no_grad()
def plain_loop(made: Detokenizer, features_BPD: Tensor, steps: int) -> Tensor:
    """Return latents denoised as diffusers' pipelines do: both branches in one batch, zeros for the negative."""
    scheduler = DDIMScheduler.from_config(made.scheduler.config)
    scheduler.set_timesteps(steps, device=made.device)
    noise = [torch.randn(made.sample_shape, generator=generator(seed, "draw")) for seed in range(len(features_BPD))]
    latents = torch.stack(noise).to(made.device) * scheduler.init_noise_sigma
    positive = made.denoiser.condition.get_submodule("unet_proj")(features_BPD)
    embeds = torch.cat([torch.zeros_like(positive), positive])
    for timestep in scheduler.timesteps:
        both = scheduler.scale_model_input(torch.cat([latents] * 2), timestep)
        predicted = made.denoiser.unet(both, timestep, encoder_hidden_states=embeds, return_dict=False)[0]
        negative, conditional = predicted.chunk(2)
        predicted = negative + GUIDANCE * (conditional - negative)
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
    return latents


def training(settings: BenchSettings, sizes: Sizes, made: Detokenizer) -> Comparison:
    """Return forward and backward passes of the UNet from stored posteriors, against encoding the images each time."""
    dtype, count, vae = settings.dtypes[-1], sizes.trained, made.vae
    assert isinstance(vae, AutoencoderKL)
    stream = generator(settings.seed, "bench", "pixels")
    side = sizes.image_px
    pixels = torch.randint(0, 256, (count, side, side, 3), generator=stream, dtype=torch.uint8).to(settings.device)
    features_BPD = torch.randn(count, PATCHES, WIDTH, generator=stream).to(settings.device)
    noise = draw_noise(count, made.sample_shape, seed=settings.seed, step=0)
    levels = torch.randint(0, 1000, (count,), generator=stream)
    latent_noise = torch.randn(count, *made.sample_shape, generator=stream).to(settings.device)
    noise, levels = noise.to(settings.device), levels.to(settings.device)
    dropped = torch.zeros(count, dtype=torch.bool, device=settings.device)
    scheduler = training_scheduler(made.scheduler)
    places = np.arange(count)
    stored = CachedRows(
        lambda indices: latent_moments(vae, in_unit_range(pixels[torch.from_numpy(indices)])).cpu(),
        count,
        2 * latent_noise[0].nbytes,
        cache_bytes=1 << 40,
        title="encode latents",
        quiet=True,
    )

    def learn(latents: Tensor) -> Tensor:
        made.denoiser.zero_grad()
        noisy, target = noisy_and_target(scheduler, latents, noise, levels)
        with torch.autocast(made.device.type, torch.bfloat16, enabled=dtype == "bf16"):
            predicted = made.denoiser(noisy, levels, features_BPD, dropped)
        loss = F.mse_loss(predicted, target)
        loss.backward()
        return loss.detach()

    def encoded() -> Tensor:
        with torch.no_grad():
            posterior = vae.encode(in_unit_range(pixels)).latent_dist
        return learn((posterior.mean + posterior.std * latent_noise) * vae.config.scaling_factor)

    def from_store() -> Tensor:
        return learn(sample_latents(vae, stored.batch(places).to(settings.device), latent_noise))

    return Comparison(
        name="training step of the UNet",
        size=f"{count} images of {side} px, VAE encoder of "
        f"{sum(one.numel() for one in vae.encoder.parameters()) / 1e6:.1f} M parameters",
        dtype=dtype,
        baseline=Arm(name=f"encoded in every step, {dtype}", run=encoded),
        ours=Arm(name=f"latents stored once, {dtype}", run=from_store),
        equal=equal_losses(dtype),
        unit="images",
        amount=count,
        goal=1.5,
    )


def in_unit_range(pixels_BhwC: Tensor) -> Tensor:
    """Return float images [B, C, h, w] in [-1, 1] of uint8 ones."""
    return pixels_BhwC.permute(0, 3, 1, 2).float() / 127.5 - 1

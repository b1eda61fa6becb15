"""The diffusion process: its noise schedule, noisy samples, and what the denoiser is trained to predict.

Letters: B images, C channels, H = W = side of the UNet's grid.
"""

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from lavit_trainkit.device import generator
from torch import Tensor

from lavit_detokenizer.config import NoiseShape


def build_scheduler(noise: NoiseShape) -> DDIMScheduler:
    """Return the noise schedule with every value set: diffusers' defaults differ from Stable Diffusion's."""
    return DDIMScheduler(**noise.model_dump(), set_alpha_to_one=noise.timestep_spacing == "trailing")


def training_scheduler(scheduler: DDIMScheduler) -> DDPMScheduler:
    """Return the DDPM form of a schedule: the same noise levels, ancestral steps."""
    return DDPMScheduler.from_config(scheduler.config)


def draw_noise(
    count: int, shape: tuple[int, int, int], num_levels: int, *, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Return the noise float32 [B, C, H, W] and the noise levels int64 [B] of a training step."""
    noise_BCHW = torch.randn((count, *shape), generator=generator(seed, "noise", step))
    return noise_BCHW, torch.randint(0, num_levels, (count,), generator=generator(seed, "timesteps", step))


def draw_dropped(count: int, probability: float, *, seed: int, step: int) -> Tensor:
    """Return which images of a training step lose their condition, bool [B]."""
    return torch.rand(count, generator=generator(seed, "drop", step)) < probability


def noisy_and_target(
    scheduler: DDPMScheduler, clean_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Return z_t and what the denoiser is to predict from it.

    Source: eq. 5 of arXiv 2309.04669 for epsilon; `sample` and `v_prediction` as in diffusers.
    """
    noisy = scheduler.add_noise(clean_BCHW, noise_BCHW, timesteps_B)
    if scheduler.config.prediction_type == "epsilon":
        return noisy, noise_BCHW
    if scheduler.config.prediction_type == "sample":
        return noisy, clean_BCHW
    return noisy, scheduler.get_velocity(clean_BCHW, noise_BCHW, timesteps_B)

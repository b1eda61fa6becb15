"""From noise to images: the noise schedule or flow, noisy samples, and what the denoiser is trained to predict.

Letters: B images, C channels, H = W = side of the sample's grid.
"""

from typing import Any, TypeAlias

import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from lavit_core.errors import UsageError
from lavit_trainkit.device import generator
from torch import Tensor

from lavit_detokenizer.config import DrawSettings, FlowShape, NoiseShape
from lavit_detokenizer.flow import build_flow_scheduler, draw_flow_timesteps, on_the_path, set_steps

Scheduler: TypeAlias = DDIMScheduler | FlowMatchEulerDiscreteScheduler
"""What is stored of a diffusion process, and of flow matching."""


def build_scheduler(process: NoiseShape | FlowShape) -> Scheduler:
    """Return the noise schedule with every value set (diffusers' defaults differ from Stable Diffusion's), or the
    flow's."""
    if isinstance(process, FlowShape):
        return build_flow_scheduler(process)
    return DDIMScheduler(**process.model_dump(), set_alpha_to_one=process.timestep_spacing == "trailing")


def training_scheduler(scheduler: Scheduler) -> DDPMScheduler | FlowMatchEulerDiscreteScheduler:
    """Return the DDPM form of a schedule: the same noise levels, ancestral steps. A flow's is its own."""
    return DDPMScheduler.from_config(scheduler.config) if isinstance(scheduler, DDIMScheduler) else scheduler


def drawing_scheduler(scheduler: Scheduler, settings: DrawSettings) -> Any:
    """Return a scheduler whose timesteps are those of drawing with `settings`.

    Raises UsageError for more steps than it has noise levels, and for a sampler that it has not.
    """
    most = int(scheduler.config.num_train_timesteps)
    if settings.num_steps > most:
        raise UsageError(f"setting num_steps: {settings.num_steps}, expected at most {most} levels of noise")
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        if settings.sampler != "ddim":
            raise UsageError(
                f"setting sampler: {settings.sampler} with a detokenizer of flow matching, expected ddim, which is "
                "Euler's step there"
            )
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
        set_steps(scheduler, settings.num_steps)
        return scheduler
    kind: Any = DDIMScheduler if settings.sampler == "ddim" else DDPMScheduler
    drawing = kind.from_config(scheduler.config)
    drawing.set_timesteps(settings.num_steps)
    return drawing


def draw_noise(count: int, shape: tuple[int, int, int], *, seed: int, step: int) -> Tensor:
    """Return the noise of a training step, float32 [B, C, H, W]."""
    return torch.randn((count, *shape), generator=generator(seed, "noise", step))


def draw_timesteps(process: NoiseShape | FlowShape, count: int, *, seed: int, step: int) -> Tensor:
    """Return the times of a training step: noise levels int64 [B], of a flow float32 [B]."""
    if isinstance(process, FlowShape):
        return draw_flow_timesteps(process, count, seed=seed, step=step)
    return torch.randint(0, process.num_train_timesteps, (count,), generator=generator(seed, "timesteps", step))


def draw_dropped(count: int, probability: float, *, seed: int, step: int) -> Tensor:
    """Return which images of a training step lose their condition, bool [B]."""
    return torch.rand(count, generator=generator(seed, "drop", step)) < probability


def noisy_and_target(
    scheduler: Any, clean_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor, flow: FlowShape | None = None
) -> tuple[Tensor, Tensor]:
    """Return z_t and what the denoiser is to predict from it, by a training scheduler or, if given, a flow.

    Source: eq. 5 of arXiv 2309.04669 for epsilon; `sample` and `v_prediction` as in diffusers.
    """
    if flow is not None:
        return on_the_path(flow, clean_BCHW, noise_BCHW, timesteps_B)
    noisy = scheduler.add_noise(clean_BCHW, noise_BCHW, timesteps_B)
    if scheduler.config.prediction_type == "epsilon":
        return noisy, noise_BCHW
    if scheduler.config.prediction_type == "sample":
        return noisy, clean_BCHW
    return noisy, scheduler.get_velocity(clean_BCHW, noise_BCHW, timesteps_B)

"""Flow matching: the straight path from an image to noise, what the network is to predict on it, and the steps back.

Letters: B images, C channels, H, W = sides of the sample; s in [0, 1] is the share of noise.
Source: rectified flow, arXiv 2209.03003; times and shift of Stable Diffusion 3, 2403.03206.
"""

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from lavit_trainkit.device import generator
from torch import Tensor

from lavit_detokenizer.config import FlowShape


def build_flow_scheduler(flow: FlowShape) -> FlowMatchEulerDiscreteScheduler:
    """Return the scheduler of drawing, which is stored with the network."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=flow.num_train_timesteps, shift=flow.shift)


def draw_flow_timesteps(flow: FlowShape, count: int, *, seed: int, step: int) -> Tensor:
    """Return the times of a training step as the network is told them, float32 [B] in (0, num_train_timesteps)."""
    stream = generator(seed, "timesteps", step)
    if flow.timestep_sampling == "uniform":
        s_B = torch.rand(count, generator=stream)
    else:
        s_B = torch.sigmoid(flow.logit_mean + flow.logit_std * torch.randn(count, generator=stream))
    return flow.num_train_timesteps * (flow.shift * s_B / (1 + (flow.shift - 1) * s_B))


def on_the_path(flow: FlowShape, clean_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return (1 - s) x + s noise, and what the network is to predict from it."""
    s_B111 = (timesteps_B / flow.num_train_timesteps)[:, None, None, None]
    noisy_BCHW = (1 - s_B111) * clean_BCHW + s_B111 * noise_BCHW
    return noisy_BCHW, clean_BCHW if flow.prediction_type == "sample" else noise_BCHW - clean_BCHW


def set_steps(scheduler: FlowMatchEulerDiscreteScheduler, num_steps: int) -> None:
    """Let a scheduler take `num_steps` even steps from noise to the image, before the shift.

    diffusers' own spacing ends with a step from 1 / num_train_timesteps to 0, which is lost: a quarter of four.
    """
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / num_steps, num_steps).tolist())


def velocity(flow: FlowShape, predicted_BCHW: Tensor, noisy_BCHW: Tensor, timestep: Tensor) -> Tensor:
    """Return the velocity noise - x of a prediction at one time for all images."""
    if flow.prediction_type == "velocity":
        return predicted_BCHW
    return (noisy_BCHW - predicted_BCHW) / (timestep / flow.num_train_timesteps)

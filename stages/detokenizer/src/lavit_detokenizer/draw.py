"""Drawing pictures from decoded features: denoising with guidance, both branches in one batch.

Letters: B pictures, P patches, D feature width, C channels, H, W = sides of the UNet's grid.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from lavit_core.errors import InputError, UsageError
from lavit_core.seeds import epoch_batches
from lavit_tokenizer.api import VisualTokenizer
from lavit_trainkit.device import generator
from torch import Tensor

from lavit_detokenizer.config import DrawSettings
from lavit_detokenizer.network import Detokenizer
from lavit_detokenizer.sizes import picture_size


@torch.no_grad()
def draw_codes(
    detokenizer: Detokenizer,
    tokenizer: VisualTokenizer,
    codes: Sequence[np.ndarray],
    *,
    seeds: Sequence[int],
    settings: DrawSettings,
) -> np.ndarray:
    """Return uint8 pictures [B, h, w, 3] of B code sequences int64 [n]; see `draw`.

    Raises InputError for codes of another tokenizer, UsageError as `draw` does.
    """
    drawn = [draw(detokenizer, torch.empty(0, *feature_shape(detokenizer)), seeds=[], settings=settings)]
    for rows in epoch_batches(len(codes), settings.batch_size):
        counts = torch.tensor([len(one) for one in codes[rows]])
        codes_T = torch.from_numpy(np.concatenate(codes[rows]))
        features = tokenizer.decode_codes(codes_T, counts, decoder=detokenizer.decoder)
        drawn.append(draw(detokenizer, features, seeds=seeds[rows], settings=settings))
    return np.concatenate(drawn)


@torch.no_grad()
def draw(detokenizer: Detokenizer, condition: Tensor, *, seeds: Sequence[int], settings: DrawSettings) -> np.ndarray:
    """Return uint8 pictures [B, h, w, 3] of decoded features [B, P, D]; a picture depends on its own seed only.

    Raises InputError for features of another shape than the detokenizer was trained on, UsageError for an aspect ratio
    that it does not draw, and for more steps than it knows levels of noise.
    """
    height, width = picture_size(detokenizer.config, settings.aspect_ratio)
    most = int(detokenizer.scheduler.config.num_train_timesteps)
    if settings.num_steps > most:
        raise UsageError(f"setting num_steps: {settings.num_steps}, expected at most {most} levels of noise")
    expected = (len(seeds), *feature_shape(detokenizer))
    if tuple(condition.shape) != expected:
        raise InputError(f"decoded features: shape {tuple(condition.shape)}, expected {expected}; use the tokenizer "
                         "that this detokenizer was trained with")  # fmt: skip
    drawn = [np.empty((0, height, width, 3), dtype=np.uint8)]
    for rows in epoch_batches(len(seeds), settings.batch_size):
        features = condition[rows].to(detokenizer.device, torch.float32)
        sample = denoise(detokenizer, features, seeds=seeds[rows], settings=settings)
        drawn.append(detokenizer.to_pixels(sample).cpu().numpy())
    return np.concatenate(drawn)


def feature_shape(detokenizer: Detokenizer) -> tuple[int, int]:
    """Return patches and width [P, D] of the decoded features it takes."""
    config = detokenizer.config
    return config.grid[0] * config.grid[1], config.feature_dim


def denoise(detokenizer: Detokenizer, features_BPD: Tensor, *, seeds: Sequence[int], settings: DrawSettings) -> Tensor:
    """Return denoised samples float32 [B, C, H, W]; every random number of a picture comes from its own stream."""
    device = detokenizer.device
    streams = [generator(seed, "draw") for seed in seeds]
    size_px = picture_size(detokenizer.config, settings.aspect_ratio)
    noise = [torch.randn(detokenizer.shape_of(size_px), generator=stream) for stream in streams]
    kind: Any = DDIMScheduler if settings.sampler == "ddim" else DDPMScheduler
    scheduler = kind.from_config(detokenizer.scheduler.config)
    scheduler.set_timesteps(settings.num_steps)
    sample = torch.stack(noise).to(device) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        predicted = guided(
            detokenizer, sample, timestep.to(device), features_BPD, settings.guidance_scale, size_px=size_px
        )
        sample = scheduler.step(predicted, timestep, sample, generator=streams).prev_sample
    return sample


def guided(
    detokenizer: Detokenizer,
    sample_BCHW: Tensor,
    timestep: Tensor,
    features_BPD: Tensor,
    guidance_scale: float,
    *,
    size_px: tuple[int, int] | None = None,
) -> Tensor:
    """Return null + scale * (conditional - null), from one forward pass of 2B rows; scale 1 needs only B of them."""
    count = len(sample_BCHW)
    copies = 1 if guidance_scale == 1 else 2
    dropped = torch.arange(copies * count, device=sample_BCHW.device) >= count
    with torch.autocast(sample_BCHW.device.type, torch.bfloat16, enabled=detokenizer.precision == "bf16"):
        predicted = detokenizer.denoiser(
            torch.cat([sample_BCHW] * copies),
            timestep.expand(copies * count),
            torch.cat([features_BPD] * copies),
            dropped,
            size_px,
        )
    if copies == 1:
        return predicted
    conditional, null = predicted.chunk(2)
    return null + guidance_scale * (conditional - null)

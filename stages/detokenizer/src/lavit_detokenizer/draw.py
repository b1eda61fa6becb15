"""Drawing images from decoded features: denoising with guidance, both branches in one batch.

Letters: B images, P patches, D feature width, C channels, H, W = sides of the sample.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from lavit_core.errors import InputError
from lavit_core.seeds import epoch_batches
from lavit_tokenizer.api import VisualTokenizer
from lavit_trainkit.device import generator
from torch import Tensor

from lavit_detokenizer.condition import Prompt
from lavit_detokenizer.config import DrawSettings
from lavit_detokenizer.flow import velocity
from lavit_detokenizer.network import Detokenizer
from lavit_detokenizer.noise import drawing_scheduler
from lavit_detokenizer.sizes import image_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawingStep:
    """One more denoising step of a batch of images."""

    images: Sequence[int]
    """Indices of the images in the batch."""
    step: int
    """Denoising steps done, of `num_steps`."""
    num_steps: int
    pixels: np.ndarray | None
    """uint8 [b, h, w, 3] after the last step."""


def draw_codes(
    detokenizer: Detokenizer,
    tokenizer: VisualTokenizer,
    codes: Sequence[np.ndarray],
    *,
    seeds: Sequence[int],
    settings: DrawSettings,
) -> np.ndarray:
    """Return uint8 images [B, h, w, 3] of B code sequences int64 [n]; see `draw`.

    Raises InputError for codes of another tokenizer, UsageError as `draw` does.
    """
    return _pixels(
        detokenizer, settings, draw_codes_steps(detokenizer, tokenizer, codes, seeds=seeds, settings=settings)
    )


def draw_codes_steps(
    detokenizer: Detokenizer,
    tokenizer: VisualTokenizer,
    codes: Sequence[np.ndarray],
    *,
    seeds: Sequence[int],
    settings: DrawSettings,
) -> Iterator[DrawingStep]:
    """Draw as `draw_codes` does, and yield after every denoising step."""

    def features_of(rows: slice) -> Tensor:
        counts = torch.tensor([len(one) for one in codes[rows]])
        codes_T = torch.from_numpy(np.concatenate(codes[rows]))
        return tokenizer.decode_codes(codes_T, counts, decoder=detokenizer.decoder)

    return _draw_steps(detokenizer, features_of, seeds, settings)


def draw(detokenizer: Detokenizer, condition: Tensor, *, seeds: Sequence[int], settings: DrawSettings) -> np.ndarray:
    """Return uint8 images [B, h, w, 3] of decoded features [B, P, D]; an image depends on its own seed only.

    Raises InputError for features of another shape than the detokenizer was trained on, UsageError for a size that it
    does not draw, and for more steps than it has noise levels.
    """
    _check_features(detokenizer, condition, len(seeds))
    return _pixels(detokenizer, settings, _draw_steps(detokenizer, lambda rows: condition[rows], seeds, settings))


@torch.no_grad()
def _draw_steps(
    detokenizer: Detokenizer, features_of: Callable[[slice], Tensor], seeds: Sequence[int], settings: DrawSettings
) -> Iterator[DrawingStep]:
    drawing_scheduler(detokenizer.scheduler, settings)  # refuses before anything is drawn
    for rows in epoch_batches(len(seeds), settings.batch_size):
        features_BPD = features_of(rows)
        _check_features(detokenizer, features_BPD, len(seeds[rows]))
        features_BPD = features_BPD.to(detokenizer.device, torch.float32)
        steps = denoise_steps(detokenizer, features_BPD, seeds=seeds[rows], settings=settings)
        for step, (sample, left) in enumerate(steps, start=1):
            pixels = None if left else detokenizer.to_pixels(sample).cpu().numpy()
            yield DrawingStep(images=range(rows.start, rows.stop), step=step, num_steps=step + left, pixels=pixels)


def _pixels(detokenizer: Detokenizer, settings: DrawSettings, steps: Iterator[DrawingStep]) -> np.ndarray:
    """Return the pixels of every batch's last step as one array."""
    size_px = image_size(detokenizer.config, settings)  # refuses before anything is drawn
    none = np.empty((0, *size_px, 3), dtype=np.uint8)
    return np.concatenate([none, *(step.pixels for step in steps if step.pixels is not None)])


def _check_features(detokenizer: Detokenizer, features_BPD: Tensor, count: int) -> None:
    expected = (count, *feature_shape(detokenizer))
    if tuple(features_BPD.shape) != expected:
        raise InputError(f"decoded features: shape {tuple(features_BPD.shape)}, expected {expected}; use the tokenizer "
                         "that this detokenizer was trained with")  # fmt: skip


def feature_shape(detokenizer: Detokenizer) -> tuple[int, int]:
    """Return patches and width [P, D] of the decoded features that a detokenizer takes."""
    config = detokenizer.config
    return config.grid[0] * config.grid[1], config.feature_dim


def denoise(detokenizer: Detokenizer, features_BPD: Tensor, *, seeds: Sequence[int], settings: DrawSettings) -> Tensor:
    """Return denoised samples float32 [B, C, H, W]; each image has its own random stream."""
    *_, (sample, _) = denoise_steps(detokenizer, features_BPD, seeds=seeds, settings=settings)
    return sample


def denoise_steps(
    detokenizer: Detokenizer, features_BPD: Tensor, *, seeds: Sequence[int], settings: DrawSettings
) -> Iterator[tuple[Tensor, int]]:
    """Yield the samples float32 [B, C, H, W] after every denoising step, and the number of steps left."""
    device = detokenizer.device
    streams = [generator(seed, "draw") for seed in seeds]
    size_px = image_size(detokenizer.config, settings)
    noise = [torch.randn(detokenizer.shape_of(size_px), generator=stream) for stream in streams]
    scheduler, flow = drawing_scheduler(detokenizer.scheduler, settings), detokenizer.config.flow
    sample = torch.stack(noise).to(device) * getattr(scheduler, "init_noise_sigma", 1.0)
    scale = settings.guidance_scale
    prompt = branches(detokenizer, features_BPD, scale, grid=(sample.shape[-2], sample.shape[-1]))
    for step, timestep in enumerate(scheduler.timesteps, start=1):
        predicted = guided(detokenizer, sample, timestep.to(device), prompt, scale, size_px=size_px)
        if flow is not None:
            predicted = velocity(flow, predicted, sample, timestep)
        sample = scheduler.step(predicted, timestep, sample, generator=streams).prev_sample
        yield sample, len(scheduler.timesteps) - step


def branches(detokenizer: Detokenizer, features_BPD: Tensor, guidance_scale: float, *, grid: tuple[int, int]) -> Prompt:
    """Return the prompt of 2B rows, the second half without condition; scale 1 needs only B rows."""
    count = len(features_BPD)
    copies = 1 if guidance_scale == 1 else 2
    dropped = torch.arange(copies * count, device=features_BPD.device) >= count
    with _autocast(detokenizer):
        prompt: Prompt = detokenizer.denoiser.condition(torch.cat([features_BPD] * copies), dropped, grid=grid)
    return prompt


def guided(
    detokenizer: Detokenizer,
    sample_BCHW: Tensor,
    timestep: Tensor,
    prompt: Prompt,
    guidance_scale: float,
    *,
    size_px: tuple[int, int] | None = None,
) -> Tensor:
    """Return null + scale * (conditional - null) from one forward pass of the rows that `branches` made."""
    copies = 1 if guidance_scale == 1 else 2
    levels = timestep.expand(copies * len(sample_BCHW))
    with _autocast(detokenizer):
        predicted = detokenizer.denoiser.predict(torch.cat([sample_BCHW] * copies), levels, prompt, size_px)
    if copies == 1:
        return predicted
    conditional, null = predicted.chunk(2)
    return null + guidance_scale * (conditional - null)


def _autocast(detokenizer: Detokenizer) -> torch.autocast:
    return torch.autocast(detokenizer.device.type, torch.bfloat16, enabled=detokenizer.precision == "bf16")

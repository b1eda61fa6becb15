"""Autoencoders of latent space: diffusers' AutoencoderKL (SD 1.5, SDXL, SD 3, Flux) and AutoencoderDC (Sana).

Letters: B images, C channels, H, W = sides of the latents.
"""

from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderDC, AutoencoderKL
from lavit_core.errors import InputError
from lavit_core.files import read_json
from torch import Tensor

Vae: TypeAlias = AutoencoderKL | AutoencoderDC

KINDS: dict[str, type[Vae]] = {"AutoencoderKL": AutoencoderKL, "AutoencoderDC": AutoencoderDC}


def vae_kind(folder: Path) -> type[Vae]:
    """Return the class of a diffusers folder's autoencoder. Raises InputError for another than the two."""
    file = folder / "config.json"
    # A folder without a configuration is refused where it is read, as an AutoencoderKL that it is not.
    name = read_json(file).get("_class_name", "AutoencoderKL") if file.is_file() else "AutoencoderKL"
    if name not in KINDS:
        raise InputError(f"{file}: _class_name is {name}, expected {' or '.join(KINDS)}")
    return KINDS[name]


def downsampling(vae: Vae) -> int:
    """Return how many pixels a side of a latent covers."""
    if isinstance(vae, AutoencoderDC):
        return int(vae.spatial_compression_ratio)
    return int(2 ** (len(vae.config.block_out_channels) - 1))


@torch.no_grad()
def latent_moments(vae: Vae, pixels_B3hw: Tensor) -> Tensor:
    """Return the VAE's posterior in fp32 of images in [-1, 1]: mean and log-variance [B, 2C, H, W], or the latent
    [B, C, H, W] of a VAE without noise."""
    encoded = vae.encode(pixels_B3hw)
    moments: Tensor = encoded.latent if isinstance(vae, AutoencoderDC) else encoded.latent_dist.parameters
    return moments


def sample_latents(vae: Vae, moments: Tensor, noise_BCHW: Tensor) -> Tensor:
    """Return scaled latents drawn from posterior moments with the given normal noise."""
    if isinstance(vae, AutoencoderDC):
        return _scaled(moments, vae)
    mean, log_variance = moments.chunk(2, dim=1)
    return _scaled(mean + torch.exp(0.5 * log_variance.clamp(-30, 20)) * noise_BCHW, vae)


@torch.no_grad()
def decode_latents(vae: Vae, latents_BCHW: Tensor) -> Tensor:
    """Return the images [B, 3, h, w] of scaled latents, one after another, in fp32.

    The VAE needs some gigabytes for an image of 1024 px, and a batch is no faster.
    """
    shift, factor = _scale(vae, latents_BCHW)
    return torch.cat([vae.decode(one).sample for one in (latents_BCHW.float() / factor + shift).split(1)])


def _scaled(latents_BCHW: Tensor, vae: Vae) -> Tensor:
    shift, factor = _scale(vae, latents_BCHW)
    return (latents_BCHW - shift) * factor


def _scale(vae: Vae, like: Tensor) -> tuple[Any, Any]:
    """Return what is subtracted from latents, and what the rest is multiplied with: numbers, or one a channel."""
    mean, deviation = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
    if mean is not None and deviation is not None:
        # Where a VAE has them, diffusers' pipelines use them in place of the shift (Playground 2.5).
        mean_1C11, deviation_1C11 = (
            torch.tensor(one, device=like.device).view(1, -1, 1, 1) for one in (mean, deviation)
        )
        return mean_1C11, vae.config.scaling_factor / deviation_1C11
    return getattr(vae.config, "shift_factor", None) or 0.0, vae.config.scaling_factor

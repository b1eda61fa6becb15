"""The denoiser (UNet, condition, refiner) and the detokenizer around it: images to samples, denoised, and back.

Letters: B images, C channels, H = W = side of the UNet's grid, P patches, D feature width.
"""

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from lavit_core.errors import UsageError
from lavit_tokenizer.api import FeatureDecoder
from torch import Tensor, nn

from lavit_detokenizer.condition import Condition
from lavit_detokenizer.config import DetokenizerConfig, UNetShape
from lavit_detokenizer.refine import Refiner
from lavit_detokenizer.seams import smooth_seams

SIZE_ID_DIM = 256
"""Width of the embedding of each of SDXL's six size ids."""


def levels_of(unet: UNet2DConditionModel) -> list[nn.Module]:
    """Return the blocks that hold almost all of a UNet's weights: down, middle (if there is one), up."""
    return [level for level in (*unet.down_blocks, unet.mid_block, *unet.up_blocks) if level is not None]


class Denoiser(nn.Module):
    """The trained network: the UNet, the projections of its condition, and convolutions on the pixel grid if any."""

    def __init__(self, unet: UNet2DConditionModel, condition: Condition, refiner: Refiner | None = None) -> None:
        super().__init__()
        self.unet, self.condition, self.refiner = unet, condition, refiner

    def forward(
        self,
        noisy_BCHW: Tensor,
        timesteps_B: Tensor,
        features_BPD: Tensor,
        dropped_B: Tensor,
        size_px: tuple[int, int] | None = None,
    ) -> Tensor:
        """Return the prediction float32 [B, C, H, W] for noisy images; dropped rows see the null condition.

        `size_px` is the height and width in SDXL's size ids; None: the detokenizer's square.
        """
        prompt = self.condition(features_BPD, dropped_B, side=noisy_BCHW.shape[-1])
        if prompt.map_BCHW is not None:
            noisy_BCHW = torch.cat([noisy_BCHW, prompt.map_BCHW.to(noisy_BCHW.dtype)], dim=1)
        added = None
        if prompt.pooled_BE is not None:
            size_ids = self.condition.size_ids(len(noisy_BCHW), noisy_BCHW.device, size_px)
            added = {"text_embeds": prompt.pooled_BE, "time_ids": size_ids}
        predicted_BCHW = self.unet(
            noisy_BCHW,
            timesteps_B,
            encoder_hidden_states=prompt.sequence_BLW,
            encoder_attention_mask=prompt.mask_BL,
            added_cond_kwargs=added,
        ).sample.float()
        return predicted_BCHW if self.refiner is None else self.refiner(predicted_BCHW).float()


@dataclasses.dataclass(kw_only=True)
class Detokenizer:
    """A denoiser with its noise schedule and, in latent space, its VAE (frozen)."""

    config: DetokenizerConfig
    denoiser: Denoiser
    scheduler: DDIMScheduler
    vae: AutoencoderKL | None
    decoder: FeatureDecoder | None = None
    """A feature decoder of its own, to be used in place of the tokenizer's."""
    precision: str = "fp32"
    """Precision of drawing: bf16 puts the UNet, and its weights where they are bf16, under autocast."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.denoiser.parameters()).device

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels and sides [C, H, W] of the square's samples."""
        return sample_shape(self.config, self.vae)

    def shape_of(self, size_px: tuple[int, int]) -> tuple[int, int, int]:
        """Return channels and sides [C, H, W] of samples for images of a height and width.

        Raises UsageError if a side is not a multiple of the downsampling factor.
        """
        channels, side, _ = self.sample_shape
        factor = self.config.image_px // side
        if any(one % factor for one in size_px):
            height, width = size_px
            raise UsageError(f"images of {height} x {width} px: expected multiples of the downsampling factor {factor}")
        return channels, size_px[0] // factor, size_px[1] // factor

    def to(self, device: torch.device | str) -> "Detokenizer":
        """Move the weights."""
        self.denoiser.to(device)
        if self.vae is not None:
            self.vae.to(device)
        if self.decoder is not None:
            self.decoder.to(device)
        return self

    def to_pixels(self, sample_BCHW: Tensor) -> Tensor:
        """Return uint8 images [B, px, px, 3] of denoised samples; the VAE decodes one after another, in fp32.

        The VAE needs some gigabytes for an image of 1024 px, and a batch is no faster.
        """
        if self.vae is None:
            pixels = F.pixel_shuffle(sample_BCHW.float(), self.config.unshuffle)
            if self.config.seam_levels:
                pixels = smooth_seams(pixels.clamp(-1, 1), self.config.unshuffle, self.config.seam_levels)
        else:
            latents = _unscale(sample_BCHW.float(), self.vae)
            pixels = torch.cat([self.vae.decode(one).sample for one in latents.split(1)])
        return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def to_sample(pixels_u8: Tensor, unshuffle: int) -> Tensor:
    """Return float32 [B, 3 unshuffle^2, px / unshuffle, px / unshuffle] in [-1, 1] of uint8 images [B, px, px, 3]."""
    return F.pixel_unshuffle(_to_unit_range(pixels_u8), unshuffle)


@torch.no_grad()
def latent_moments(vae: AutoencoderKL, pixels_u8: Tensor) -> Tensor:
    """Return mean and log-variance [B, 2C, H, W] of the VAE's posterior, in fp32, of uint8 images [B, px, px, 3]."""
    return vae.encode(_to_unit_range(pixels_u8)).latent_dist.parameters


def sample_latents(vae: AutoencoderKL, moments: Tensor, noise_BCHW: Tensor) -> Tensor:
    """Return scaled latents drawn from posterior moments with the given normal noise."""
    mean, log_variance = moments.chunk(2, dim=1)
    latents = mean + torch.exp(0.5 * log_variance.clamp(-30, 20)) * noise_BCHW
    return (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def _unscale(latents: Tensor, vae: AutoencoderKL) -> Tensor:
    return latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)


def _to_unit_range(pixels_u8: Tensor) -> Tensor:
    return pixels_u8.permute(0, 3, 1, 2).float() / 127.5 - 1


def sample_shape(config: DetokenizerConfig, vae: AutoencoderKL | None) -> tuple[int, int, int]:
    """Return channels and sides [C, H, W] of samples. Raises UsageError if image_px does not divide."""
    if vae is None:
        side = config.image_px // config.unshuffle
        return 3 * config.unshuffle**2, side, side
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if config.image_px % factor:
        raise UsageError(f"setting image_px: {config.image_px} is not a multiple of the VAE's factor {factor}")
    return int(vae.config.latent_channels), config.image_px // factor, config.image_px // factor


def unet_arguments(config: DetokenizerConfig, shape: UNetShape, sample: tuple[int, int, int]) -> dict[str, Any]:
    """Return the arguments of UNet2DConditionModel for a shape and a space."""
    condition = config.condition
    arguments = {
        **shape.model_dump(),
        "sample_size": sample[1],
        "in_channels": sample[0] + (condition.map_channels if condition.concatenated else 0),
        "out_channels": sample[0],
        "cross_attention_dim": sum(condition.cross_dims) if condition.attended else config.feature_dim,
    }
    if condition.pooled_dim is not None:
        arguments |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": SIZE_ID_DIM,
            "projection_class_embeddings_input_dim": condition.pooled_dim + 6 * SIZE_ID_DIM,
        }
    return arguments


def build_refiner(config: DetokenizerConfig) -> Refiner | None:
    """Return the untrained convolutions on the pixel grid, None without them; the global generator must be seeded."""
    if config.refine_channels == 0:
        return None
    return Refiner(config.refine_channels, layers=config.refine_layers, unshuffle=config.unshuffle)


def build_unet(config: DetokenizerConfig, shape: UNetShape, sample: tuple[int, int, int]) -> UNet2DConditionModel:
    """Return an untrained UNet; the global generator must be seeded. Raises UsageError if `shape` is impossible."""
    try:
        return UNet2DConditionModel(**unet_arguments(config, shape, sample))
    except ValueError as error:
        raise UsageError(f"setting unet: {' '.join(str(error).split())}") from None

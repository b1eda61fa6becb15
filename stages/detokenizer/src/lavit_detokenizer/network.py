"""The denoiser (network, condition, refiner) and the detokenizer around it: images to samples, denoised, and back.

Letters: B images, C channels, H, W = sides of the sample's grid, P patches, D feature width.
"""

import dataclasses
from typing import TypeAlias

import torch
import torch.nn.functional as F
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from lavit_core.errors import UsageError
from lavit_tokenizer.api import FeatureDecoder
from torch import Tensor, nn

from lavit_detokenizer import transformer as transformers
from lavit_detokenizer import unet as unets
from lavit_detokenizer.condition import Condition, Prompt
from lavit_detokenizer.config import DetokenizerConfig
from lavit_detokenizer.noise import Scheduler
from lavit_detokenizer.refine import Refiner
from lavit_detokenizer.seams import smooth_seams
from lavit_detokenizer.vae import Vae, decode_latents, downsampling

Network: TypeAlias = UNet2DConditionModel | PixArtTransformer2DModel
"""What a denoiser is made of: a UNet (published), or a transformer."""


class Denoiser(nn.Module):
    """The trained network: UNet or transformer, the projections of its condition, and convolutions on the pixel grid if
    any."""

    unet: UNet2DConditionModel
    transformer: PixArtTransformer2DModel

    def __init__(self, network: Network, condition: Condition, refiner: Refiner | None = None) -> None:
        super().__init__()
        self.kind = "transformer" if isinstance(network, PixArtTransformer2DModel) else "unet"
        self.add_module(self.kind, network)  # under the name of its folder, which checkpoints have always had
        self.condition, self.refiner = condition, refiner

    @property
    def network(self) -> Network:
        """The UNet or transformer."""
        return self.transformer if self.kind == "transformer" else self.unet

    @property
    def blocks(self) -> list[nn.Module]:
        """The network's blocks, one after another, which hold almost all of its weights."""
        return list(self.transformer.transformer_blocks) if self.kind == "transformer" else unets.levels_of(self.unet)

    @property
    def recomputed_blocks(self) -> list[nn.Module]:
        """What the network computes again under gradient checkpointing."""
        return self.blocks if self.kind == "transformer" else unets.recomputed_blocks(self.unet)

    def forward(
        self,
        noisy_BCHW: Tensor,
        timesteps_B: Tensor,
        features_BPD: Tensor,
        dropped_B: Tensor,
        size_px: tuple[int, int] | None = None,
    ) -> Tensor:
        """Return the prediction float32 [B, C, H, W] for noisy images; dropped rows see the null condition.

        `size_px` is the height and width in the size ids; None: the detokenizer's square.
        """
        prompt = self.condition(features_BPD, dropped_B, grid=(noisy_BCHW.shape[-2], noisy_BCHW.shape[-1]))
        return self.predict(noisy_BCHW, timesteps_B, prompt, size_px)

    def predict(
        self, noisy_BCHW: Tensor, timesteps_B: Tensor, prompt: Prompt, size_px: tuple[int, int] | None = None
    ) -> Tensor:
        """Return the same for a prompt that `condition` made before, which all steps of a drawing share."""
        channels = noisy_BCHW.shape[1]
        if prompt.map_BCHW is not None:
            noisy_BCHW = torch.cat([noisy_BCHW, prompt.map_BCHW.to(noisy_BCHW.dtype)], dim=1)
        size_ids = self.condition.size_ids(len(noisy_BCHW), noisy_BCHW.device, size_px)
        if self.kind == "transformer":
            predicted_BCHW = transformers.predict(
                self.transformer, noisy_BCHW, timesteps_B, prompt, size_ids, channels=channels
            )
        else:
            predicted_BCHW = unets.predict(self.unet, noisy_BCHW, timesteps_B, prompt, size_ids)
        predicted_BCHW = predicted_BCHW.float()
        return predicted_BCHW if self.refiner is None else self.refiner(predicted_BCHW).float()


@dataclasses.dataclass(kw_only=True)
class Detokenizer:
    """A denoiser with its scheduler and, in latent space, its VAE (frozen)."""

    config: DetokenizerConfig
    denoiser: Denoiser
    scheduler: Scheduler
    vae: Vae | None
    decoder: FeatureDecoder | None = None
    """A feature decoder of its own, to be used in place of the tokenizer's."""
    precision: str = "fp32"
    """Precision of drawing: bf16 puts the network, and its weights where they are bf16, under autocast."""

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
        return shape_of(self.config, self.sample_shape, size_px)

    def to(self, device: torch.device | str) -> "Detokenizer":
        """Move the weights."""
        self.denoiser.to(device)
        if self.vae is not None:
            self.vae.to(device)
        if self.decoder is not None:
            self.decoder.to(device)
        return self

    def to_pixels(self, sample_BCHW: Tensor) -> Tensor:
        """Return uint8 images [B, px, px, 3] of denoised samples."""
        if self.vae is None:
            pixels = F.pixel_shuffle(sample_BCHW.float(), self.config.unshuffle)
            if self.config.seam_levels:
                pixels = smooth_seams(pixels.clamp(-1, 1), self.config.unshuffle, self.config.seam_levels)
        else:
            pixels = decode_latents(self.vae, sample_BCHW)
        return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def to_sample(pixels_u8: Tensor, unshuffle: int) -> Tensor:
    """Return float32 [B, 3 unshuffle^2, px / unshuffle, px / unshuffle] in [-1, 1] of uint8 images [B, px, px, 3]."""
    return F.pixel_unshuffle(to_unit_range(pixels_u8), unshuffle)


def to_unit_range(pixels_u8: Tensor) -> Tensor:
    """Return float32 [B, 3, px, px] in [-1, 1] of uint8 images [B, px, px, 3]."""
    return pixels_u8.permute(0, 3, 1, 2).float() / 127.5 - 1


def sample_shape(config: DetokenizerConfig, vae: Vae | None) -> tuple[int, int, int]:
    """Return channels and sides [C, H, W] of samples. Raises UsageError if image_px does not divide."""
    if vae is None:
        side = config.image_px // config.unshuffle
        return 3 * config.unshuffle**2, side, side
    factor = downsampling(vae)
    if config.image_px % factor:
        raise UsageError(f"setting image_px: {config.image_px} is not a multiple of the VAE's factor {factor}")
    return int(vae.config.latent_channels), config.image_px // factor, config.image_px // factor


def shape_of(config: DetokenizerConfig, square: tuple[int, int, int], size_px: tuple[int, int]) -> tuple[int, int, int]:
    """Return channels and sides [C, H, W] of samples for images of a height and width, given the square's.

    Raises UsageError if a side is not a multiple of the downsampling factor.
    """
    channels, side, _ = square
    factor, (height, width) = config.image_px // side, size_px
    if height % factor or width % factor:
        raise UsageError(f"images of {width}x{height} px: expected multiples of the downsampling factor {factor}")
    return channels, height // factor, width // factor


def build_refiner(config: DetokenizerConfig) -> Refiner | None:
    """Return the untrained convolutions on the pixel grid, None without them; the global generator must be seeded."""
    if config.refine_channels == 0:
        return None
    return Refiner(config.refine_channels, layers=config.refine_layers, unshuffle=config.unshuffle)

"""Local files that a detokenizer's training starts from, beside its settings."""

import dataclasses
from pathlib import Path
from typing import Annotated

from lavit_core.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartFiles:
    """Weights that are given; what is not given starts as drawn, or is not there."""

    unet: Annotated[Path | None, option("--unet", help="diffusers UNet folder to start from.")] = None
    transformer: Annotated[
        Path | None, option("--transformer", help="diffusers PixArtTransformer2DModel folder to start from.")
    ] = None
    vae: Annotated[
        Path | None, option("--vae", help="diffusers AutoencoderKL or AutoencoderDC folder (latent space).")
    ] = None
    null_embedding: Annotated[
        Path | None, option("--null-embedding", help="Null-text embedding (null_condition: stored).")
    ] = None

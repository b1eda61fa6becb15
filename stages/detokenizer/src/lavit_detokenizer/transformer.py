"""A transformer as the denoiser's network: diffusers' PixArtTransformer2DModel (DiT's blocks, cross-attention).

Letters: B images, C channels, H, W = sides of the sample. Why this class: docs/adr/0017.
"""

from typing import Any

import torch
from diffusers import PixArtTransformer2DModel
from lavit_core.errors import UsageError
from torch import Tensor, nn

from lavit_detokenizer.condition import Prompt
from lavit_detokenizer.config import DetokenizerConfig, TransformerShape


def transformer_arguments(
    config: DetokenizerConfig, shape: TransformerShape, sample: tuple[int, int, int]
) -> dict[str, Any]:
    """Return the arguments of PixArtTransformer2DModel for a shape and a space.

    Raises UsageError if the sample is not a whole number of patches, or the width none that has positions.
    """
    condition, width = config.condition, shape.num_attention_heads * shape.attention_head_dim
    if sample[1] % shape.patch_size:
        raise UsageError(
            f"setting transformer.patch_size: {shape.patch_size} does not divide the {sample[1]} x {sample[2]} grid of "
            f"samples of {config.image_px} px"
        )
    if width % 4:
        raise UsageError(
            f"setting transformer: num_attention_heads {shape.num_attention_heads} x attention_head_dim "
            f"{shape.attention_head_dim} is {width}, expected a multiple of 4 (sines and cosines of two axes)"
        )
    return {
        **shape.model_dump(),
        "sample_size": sample[1],
        "in_channels": sample[0] + (condition.map_channels if condition.concatenated else 0),
        "out_channels": sample[0],
        # Without it the blocks have no cross-attention: the map alone is read.
        "cross_attention_dim": sum(condition.cross_dims) if condition.attended else None,
        # diffusers' own default depends on the sample's side.
        "use_additional_conditions": False,
    }


def build_transformer(
    config: DetokenizerConfig, shape: TransformerShape, sample: tuple[int, int, int]
) -> PixArtTransformer2DModel:
    """Return an untrained transformer; the global generator must be seeded.

    Raises UsageError as `transformer_arguments` does.
    """
    transformer = PixArtTransformer2DModel(**transformer_arguments(config, shape, sample))
    initialise(transformer)
    return transformer


@torch.no_grad()
def initialise(transformer: PixArtTransformer2DModel) -> None:
    """Draw a transformer's weights as PixArt's own code does; diffusers leaves them at torch's defaults.

    The untrained transformer predicts 0. Source: initialize_weights of PixArt-alpha's PixArtMS, after DiT (2212.09748).
    """
    linear = [module for module in transformer.modules() if isinstance(module, nn.Linear)]
    for module in linear:
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    patches = transformer.pos_embed.proj
    nn.init.xavier_uniform_(patches.weight.view(patches.weight.shape[0], -1))
    embedder = transformer.adaln_single.emb.timestep_embedder
    for module in (embedder.linear_1, embedder.linear_2, transformer.adaln_single.linear):
        nn.init.normal_(module.weight, std=0.02)
    # Cross-attention and the prediction begin at nothing; biases are zero already.
    for block in transformer.transformer_blocks:
        if block.attn2 is not None:
            nn.init.zeros_(block.attn2.to_out[0].weight)
    nn.init.zeros_(transformer.proj_out.weight)


def predict(
    transformer: PixArtTransformer2DModel,
    input_BCHW: Tensor,
    timesteps_B: Tensor,
    prompt: Prompt,
    size_ids_B6: Tensor,
    *,
    channels: int,
) -> Tensor:
    """Return the prediction [B, C, H, W] of `channels`; PixArt's weights give as many more, for a variance.

    A transformer with additional conditions (PixArt-Alpha at 1024 px) is told height, width and their ratio.
    """
    added = None
    if transformer.use_additional_conditions:
        height_width_B2 = size_ids_B6[:, 4:]
        added = {"resolution": height_width_B2, "aspect_ratio": height_width_B2[:, :1] / height_width_B2[:, 1:]}
    predicted: Tensor = transformer(
        input_BCHW,
        encoder_hidden_states=None if transformer.config.cross_attention_dim is None else prompt.sequence_BLW,
        timestep=timesteps_B,
        added_cond_kwargs=added,
        encoder_attention_mask=prompt.mask_BL,
    ).sample
    return predicted[:, :channels]


def misfit(found: Any, config: DetokenizerConfig, sample: tuple[int, int, int]) -> tuple[str, object, object] | None:
    """Return the first argument of a transformer's configuration that does not fit condition and space: its name, the
    value found, the value expected; None if all fit."""
    condition, channels = config.condition, sample[0]
    # PixArt's weights project what they attend to; ours take it as it is.
    width = "cross_attention_dim" if found.caption_channels is None else "caption_channels"
    values = [
        ("in_channels", found.in_channels, channels + (condition.map_channels if condition.concatenated else 0)),
        ("out_channels", found.out_channels, 2 * channels if found.out_channels == 2 * channels else channels),
        (width, getattr(found, width), sum(condition.cross_dims) if condition.attended else None),
        ("sample side modulo patch_size", sample[1] % found.patch_size, 0),
    ]
    return next((value for value in values if value[1] != value[2]), None)

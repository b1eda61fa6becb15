"""The UNet as the denoiser's network: diffusers' UNet2DConditionModel (SD 1.5, SDXL)."""

from typing import Any

from diffusers import UNet2DConditionModel
from lavit_core.errors import UsageError
from torch import Tensor, nn

from lavit_detokenizer.condition import Prompt
from lavit_detokenizer.config import DetokenizerConfig, UNetShape

SIZE_ID_DIM = 256
"""Width of the embedding of each of SDXL's six size ids."""


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


def build_unet(config: DetokenizerConfig, shape: UNetShape, sample: tuple[int, int, int]) -> UNet2DConditionModel:
    """Return an untrained UNet; the global generator must be seeded. Raises UsageError if `shape` is impossible."""
    try:
        return UNet2DConditionModel(**unet_arguments(config, shape, sample))
    except ValueError as error:
        raise UsageError(f"setting unet: {' '.join(str(error).split())}") from None


def predict(
    unet: UNet2DConditionModel, input_BCHW: Tensor, timesteps_B: Tensor, prompt: Prompt, size_ids_B6: Tensor
) -> Tensor:
    """Return the UNet's prediction [B, C, H, W] for its input channels."""
    added = None
    if prompt.pooled_BE is not None:
        added = {"text_embeds": prompt.pooled_BE, "time_ids": size_ids_B6}
    predicted: Tensor = unet(
        input_BCHW,
        timesteps_B,
        encoder_hidden_states=prompt.sequence_BLW,
        encoder_attention_mask=prompt.mask_BL,
        added_cond_kwargs=added,
    ).sample
    return predicted


def levels_of(unet: UNet2DConditionModel) -> list[nn.Module]:
    """Return the blocks that hold almost all of a UNet's weights: down, middle (if there is one), up."""
    return [level for level in (*unet.down_blocks, unet.mid_block, *unet.up_blocks) if level is not None]


def recomputed_blocks(unet: UNet2DConditionModel) -> list[nn.Module]:
    """Return what a UNet computes again under gradient checkpointing: each residual and each attention block."""
    names = ("resnets", "attentions")
    return [block for level in levels_of(unet) for name in names for block in getattr(level, name, [])]


def misfit(found: Any, config: DetokenizerConfig, sample: tuple[int, int, int]) -> tuple[str, object, object] | None:
    """Return the first argument of a UNet's configuration that does not fit condition and space: its name, the value
    found, the value expected; None if all fit."""
    # Only what follows from condition and space is compared: the levels are the folder's own.
    wanted = unet_arguments(config, UNetShape(), sample)
    # A UNet without attention blocks takes a sequence of any width.
    names = ["in_channels", "out_channels", "addition_embed_type", "projection_class_embeddings_input_dim"]
    names += ["cross_attention_dim"] if config.condition.attended else []
    values = ((name, getattr(found, name), wanted.get(name)) for name in names)
    return next((value for value in values if value[1] != value[2]), None)

"""What `lavit train-detokenizer --dry-run` prints: sizes on torch's meta device, and what a step costs."""

import functools
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from lavit_core.errors import InputError
from lavit_core.files import read_json
from lavit_core.modeldir import find_part
from lavit_core.tokens import open_tokens
from lavit_tokenizer.api import TokenizerConfig, decoder_cost, read_tokenizer_config, tokenizer_on_meta_device
from lavit_trainkit.cost import Cost, Step, backward_of, count
from lavit_trainkit.cost_report import cost_report
from lavit_trainkit.device import pick_device
from lavit_trainkit.meta_run import forward_flops, kept_between_blocks, kept_bytes
from torch import nn

from lavit_detokenizer.condition import Condition
from lavit_detokenizer.config import DetokenizerConfig, TrainDetokenizerConfig
from lavit_detokenizer.network import Denoiser, levels_of, sample_shape, unet_arguments

STABLE_DIFFUSION_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
"""The autoencoder that is assumed where none is given: that of Stable Diffusion 1.5 and SDXL."""


def plan(
    config: TrainDetokenizerConfig,
    tokens: Path | None = None,
    model: Path | None = None,
    vae: Path | None = None,
    unet: Path | None = None,
    *,
    device: str = "auto",
) -> dict[str, Any]:
    """Return what a run would do and cost; without tokens and model, on the paper's. No weights are made.

    Raises InputError for a folder that is none.
    """
    reader = None if tokens is None else open_tokens(tokens)
    shape = TokenizerConfig()
    if model is not None:
        shape = read_tokenizer_config(find_part(model, "tokenizer"))
    about = DetokenizerConfig(
        **config.model_dump(include={"space", "image_px", "unshuffle", "condition"}),
        feature_dim=shape.decoder_width,
        grid=shape.grid,
    )
    encoder = _network(AutoencoderKL, vae, STABLE_DIFFUSION_VAE) if config.space == "latent" else None
    sample = sample_shape(about, encoder)
    network = _network(UNet2DConditionModel, unet, unet_arguments(about, config.unet, sample))
    denoiser = _denoiser(network, about, config)
    images, place = None if reader is None else len(reader), pick_device(device)
    step = _step(config, denoiser, encoder, shape, sample, images=images, on_cpu=place.type == "cpu")
    return {
        "config": config.model_dump(mode="json"),
        "tokenizer": "the paper's (assumed: no --model)" if model is None else str(model / "tokenizer"),
        "images": images,
        "sample_shape": list(sample),
        "unet_parameters": count(denoiser.unet),
        "condition_parameters": count(denoiser.condition),
        "images_per_step": config.batch_size,
        "epochs": None if not images else config.num_steps * config.batch_size / images,
        "cost": cost_report([step], device=place, precision=config.precision),
    }


def _network(kind: Any, folder: Path | None, otherwise: dict[str, Any]) -> Any:
    about = otherwise if folder is None else read_json(folder / "config.json")
    try:
        with torch.device("meta"):
            return kind.from_config(about)
    except (TypeError, ValueError, AttributeError) as error:
        told = " ".join(str(error).split())[:200]
        raise InputError(f"{folder or 'setting unet'}: not a {kind.__name__} ({told})") from None


def _denoiser(network: Any, about: DetokenizerConfig, config: TrainDetokenizerConfig) -> Denoiser:
    width = sum(config.condition.cross_dims)
    null_shape = (77, width) if config.condition.null_condition == "stored" else None
    with torch.device("meta"):
        return Denoiser(network, Condition(about, null_shape=null_shape))


def _step(
    config: TrainDetokenizerConfig,
    denoiser: Denoiser,
    vae: Any,
    shape: TokenizerConfig,
    sample: tuple[int, int, int],
    *,
    images: int | None,
    on_cpu: bool,
) -> Step:
    """A convolution's rows shrink and grow on their way: the UNet is counted by running it on one picture."""
    batch, patches = config.batch_size, shape.num_patches
    with torch.device("meta"):
        inputs = (torch.zeros(1, *sample), torch.zeros(1, dtype=torch.long),
                  torch.zeros(1, patches, shape.decoder_width), torch.zeros(1, dtype=torch.bool))  # fmt: skip
    forward = forward_flops(lambda: denoiser(*inputs)) * batch
    # Counted in fp32; autocast keeps what is computed in bfloat16 in half of that.
    run = functools.partial(denoiser, *inputs)
    again = config.gradient_checkpointing
    kept = kept_between_blocks(denoiser, _blocks(denoiser.unet), run) if again else kept_bytes(denoiser, run)
    kept_a_pass = kept * batch / config.accumulate_steps * (0.5 if config.precision == "bf16" else 1.0)
    costs = [
        Cost(
            name="denoiser", parameters=count(denoiser), trained=count(denoiser), forward=forward,
            backward=backward_of(forward, trained=True), again=forward if again else 0.0, kept_bytes=kept_a_pass,
        )
    ]  # fmt: skip
    tokenizer = tokenizer_on_meta_device(shape)
    cached = images is not None and images * patches * shape.decoder_width * 2 <= config.cache_bytes
    decoded = decoder_cost(tokenizer.decoder, shape, batch, on_cpu=on_cpu)
    costs.append(_frozen("feature decoder", tokenizer.decoder, 0.0 if cached else decoded.forward))
    if vae is not None:
        pixels = torch.zeros(1, 3, config.image_px, config.image_px, device="meta")
        once = images is not None and images * 2 * sample[0] * sample[1] * sample[2] * 4 <= config.cache_bytes
        flops = 0.0 if once else forward_flops(lambda: vae.encode(pixels)) * batch
        costs.append(_frozen("vae encoder", vae, flops))
    sizes = [count(level) for level in levels_of(denoiser.unet)]
    return Step(
        name="train-detokenizer",
        unit="image",
        units=batch,
        costs=tuple(costs),
        num_steps=config.num_steps,
        low_weights=config.precision == "bf16",
        averaged=True,
        gathered=max(sizes) + count(denoiser) - sum(sizes),
    )


def _blocks(unet: Any) -> list[nn.Module]:
    """Return what a UNet computes again under gradient checkpointing: each residual and each attention block."""
    names = ("resnets", "attentions")
    return [block for level in levels_of(unet) for name in names for block in getattr(level, name, [])]


def _frozen(name: str, module: nn.Module, forward: float) -> Cost:
    return Cost(name=name, parameters=count(module), forward=forward)

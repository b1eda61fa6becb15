"""`lavit train-detokenizer --dry-run`: sizes on torch's meta device, and the cost of a step."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from lavit_core.files import read_json
from lavit_core.modeldir import find_part
from lavit_core.tokens import open_tokens
from lavit_tokenizer.api import TokenizerConfig, decoder_flops, new_decoder, read_tokenizer_config
from lavit_trainkit.cost import Step, cost_report, count, part
from lavit_trainkit.eight_bit import check_moment_bits
from lavit_trainkit.flops import Counts, forward_flops, training_counts, with_recomputed_block
from lavit_trainkit.precision import with_precision

from lavit_detokenizer.build import check_sizes
from lavit_detokenizer.condition import Condition
from lavit_detokenizer.config import DetokenizerConfig, TrainDetokenizerConfig
from lavit_detokenizer.folder import NETWORKS, network_on_meta_device
from lavit_detokenizer.network import Denoiser, build_refiner, sample_shape, shape_of
from lavit_detokenizer.sizes import trained_sizes
from lavit_detokenizer.start_files import StartFiles
from lavit_detokenizer.transformer import transformer_arguments
from lavit_detokenizer.unet import unet_arguments
from lavit_detokenizer.vae import latent_moments, vae_kind

STABLE_DIFFUSION_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
"""The autoencoder that is assumed if none is given: that of Stable Diffusion 1.5 and SDXL."""


def plan(
    config: TrainDetokenizerConfig,
    tokens: Path | None = None,
    model: Path | None = None,
    start: StartFiles = StartFiles(),
    *,
    device: str = "auto",
) -> dict[str, Any]:
    """Return the sizes and costs of a run, without making weights; without `model`, for the paper's tokenizer.

    All images are counted at the largest of `sizes`.
    Raises InputError if a folder does not hold a model of its kind.
    """
    config = with_precision(config, device)
    check_moment_bits(config.moment_bits, config.parallel)
    reader = None if tokens is None else open_tokens(tokens, check_digests=False)
    shape = TokenizerConfig()
    if model is not None:
        shape = read_tokenizer_config(find_part(model, "tokenizer"))
    detokenizer = config.detokenizer(shape.decoder_width, shape.grid)
    encoder = None
    if config.space == "latent":
        kind = AutoencoderKL if start.vae is None else vae_kind(start.vae)
        encoder = _network(kind, start.vae, STABLE_DIFFUSION_VAE, "VAE")
    square = sample_shape(detokenizer, encoder)
    largest = max(trained_sizes(detokenizer), key=math.prod)
    sample = shape_of(detokenizer, square, largest)
    if start.transformer is None and config.transformer is None:
        network = _network(NETWORKS["unet"], start.unet, unet_arguments(detokenizer, config.unet, square), "unet")
    else:
        own = {} if config.transformer is None else transformer_arguments(detokenizer, config.transformer, square)
        network = _network(NETWORKS["transformer"], start.transformer, own, "transformer")
    denoiser = _denoiser(network, detokenizer, config)
    check_sizes(detokenizer, square, network)
    images = None if reader is None else len(reader)
    step = _step(config, denoiser, encoder, shape, sample, largest, images=images)
    return {
        "config": config.model_dump(mode="json"),
        "tokenizer": "the paper's (assumed: no --model)" if model is None else str(model / "tokenizer"),
        "images": images,
        "sample_shape": list(sample),
        f"{denoiser.kind}_parameters": count(denoiser.network),
        "condition_parameters": count(denoiser.condition),
        "refiner_parameters": 0 if denoiser.refiner is None else count(denoiser.refiner),
        "images_per_step": config.batch_size,
        "epochs": None if not images else config.num_steps * config.batch_size / images,
        "cost": cost_report([step]),
    }


def _network(kind: Any, folder: Path | None, assumed: dict[str, Any], name: str) -> Any:
    if folder is None:
        return network_on_meta_device(kind, assumed, f"setting {name}")
    return network_on_meta_device(kind, read_json(folder / "config.json"), folder)


def _denoiser(network: Any, detokenizer: DetokenizerConfig, config: TrainDetokenizerConfig) -> Denoiser:
    width = sum(config.condition.cross_dims)
    null_shape = (77, width) if config.condition.null_condition == "stored" else None
    with torch.device("meta"):
        return Denoiser(network, Condition(detokenizer, null_shape=null_shape), build_refiner(detokenizer))


def _step(
    config: TrainDetokenizerConfig,
    denoiser: Denoiser,
    vae: Any,
    shape: TokenizerConfig,
    sample: tuple[int, int, int],
    size_px: tuple[int, int],
    *,
    images: int | None,
) -> Step:
    """Return a step; its network is counted by a run for one image of a size on the meta device."""
    batch, patches = config.batch_size, shape.num_patches
    counts, parts = (
        _denoiser_counts(config, denoiser, shape, sample),
        [part("denoiser", denoiser, trained=True, moment_bits=config.moment_bits)],
    )
    with torch.device("meta"):
        decoder = new_decoder(shape)
    parts.append(part("feature decoder", decoder))
    flops = counts.flops
    if images is None or images * patches * shape.decoder_width * 2 > config.cache_bytes:
        flops += decoder_flops(decoder, shape)
    if vae is not None:
        pixels = torch.zeros(1, 3, *size_px, device="meta")
        parts.append(part("vae encoder", vae))
        if images is None or images * latent_moments(vae, pixels).numel() * 4 > config.cache_bytes:
            flops += forward_flops(lambda: latent_moments(vae, pixels))
    sizes = [count(block) for block in denoiser.blocks]
    return Step(
        name="train-detokenizer",
        unit="image",
        units=batch,
        num_steps=config.num_steps,
        parts=tuple(parts),
        flops=batch * flops,
        activation_bytes=batch / config.accumulate_steps * counts.kept_bytes,
        low_weights=config.precision == "bf16",
        averaged=True,
        gathered=max(sizes) + count(denoiser) - sum(sizes),
    )


def _denoiser_counts(
    config: TrainDetokenizerConfig, denoiser: Denoiser, shape: TokenizerConfig, sample: tuple[int, int, int]
) -> Counts:
    with torch.device("meta"):
        times = torch.zeros(1, dtype=torch.long if config.flow is None else torch.float32)
        inputs = (torch.zeros(1, *sample), times,
                  torch.zeros(1, shape.num_patches, shape.decoder_width), torch.zeros(1, dtype=torch.bool))  # fmt: skip
    denoiser.train()
    counts = training_counts(denoiser, lambda: denoiser(*inputs).sum())
    if config.gradient_checkpointing:
        denoiser.network.enable_gradient_checkpointing()
        checkpointed = training_counts(denoiser, lambda: denoiser(*inputs).sum())
        counts = with_recomputed_block(checkpointed, counts, len(denoiser.recomputed_blocks))
    # Counted in fp32; autocast keeps bfloat16 results in half of that.
    return dataclasses.replace(counts, kept_bytes=counts.kept_bytes * (0.5 if config.precision == "bf16" else 1.0))

"""Contents of `--dry-run`: the resolved settings, parameter counts, and the cost of a step."""

from pathlib import Path
from typing import Any

import torch
from lavit_core.config import load_preset, resolve
from lavit_core.data import Source, open_data
from lavit_core.errors import UsageError
from lavit_core.modeldir import find_part
from lavit_trainkit.cost import cost_report, count
from lavit_trainkit.precision import with_precision

from lavit_tokenizer.config import (
    SmallVitConfig,
    TokenizeConfig,
    TokenizerConfig,
    TrainEncoderConfig,
    TrainTokenizerConfig,
)
from lavit_tokenizer.contrastive import ContrastiveModel
from lavit_tokenizer.cost import PART_NAMES, encoder_step, planned_encoder, tokenizer_step
from lavit_tokenizer.selector import topk_tokens
from lavit_tokenizer.tokenizer import shape_for, tokenizer_on_meta_device
from lavit_tokenizer.tokenizer_folder import read_config


def plan_encoder(config: TrainEncoderConfig, *, device: str = "auto") -> dict[str, Any]:
    """Return what `train-encoder` would do; the vocabulary is counted at its limit."""
    config = with_precision(config, device)
    with torch.device("meta"):
        model = ContrastiveModel(config, config.vocabulary_size)
    head = list(model.vision.blocks)[config.vision.layers :]
    return {
        "config": config.model_dump(mode="json"),
        "encoder_parameters": count(model.vision) - sum(count(block) for block in head),
        "trained_parameters": count(model),
        "images_per_step": config.batch_size,
        "images": config.num_steps * config.batch_size,
        "cost": cost_report([encoder_step(config, model)]),
    }


def plan_tokenizer(
    config: TrainTokenizerConfig,
    *,
    data: Path | Source | None = None,
    model: Path | None = None,
    encoder: Path | None = None,
    preset: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Return what `train-tokenizer` would do and cost; without an encoder, on that of `train-encoder` with the same
    `preset`, or on the paper's if it has no such preset.

    Raises InputError if the encoder is unknown, UsageError if the heads do not divide its width.
    """
    config = with_precision(config, device)
    folder = encoder if encoder is not None else None if model is None else find_part(model, "encoder")
    small = _small_encoder(preset) if folder is None else None
    network = planned_encoder(folder, small, config.encoder)
    found = "EVA-CLIP ViT-g/14" if small is None else f"that of `train-encoder --preset {preset}`"
    shape = shape_for(config.model, network)
    tokenizer = tokenizer_on_meta_device(shape)
    images = None if data is None else len(open_data(data).records)
    cached = images is not None and 2 * images * shape.num_patches * shape.feature_dim <= config.cache_bytes
    parts = ("selector", "merger", "encode_task_layer", "decoder")
    steps = [tokenizer_step(config, phase, network, cached=cached) for phase in config.phases]
    return {
        **({"assumed": f"the encoder is {found}; give --model or --encoder for another"} if folder is None else {}),
        "config": config.model_dump(mode="json"),
        "encoder": found if folder is None else str(folder),
        "steps": sum(phase.num_steps for phase in config.phases),
        "images_per_step": {phase.name: phase.batch_size for phase in config.phases},
        "images": sum(phase.num_steps * phase.batch_size for phase in config.phases),
        "images_in_data": images,
        "features_cached": cached,
        "parameters": {
            "encoder": count(network),
            **{PART_NAMES.get(name, name): count(getattr(tokenizer, name)) for name in parts},
        },
        "codebook": f"{_factors(shape)}{shape.codebook_size} codes of {shape.code_dim} numbers each",
        "tokens_per_image": round(config.model.keep_ratio * shape.num_patches),
        "cost": cost_report(steps),
    }


def _factors(shape: TokenizerConfig) -> str:
    factors = shape.codebook_factors
    return "" if factors is None else f"{factors[0]} x {factors[1]} = "


def _small_encoder(preset: str | None) -> SmallVitConfig | None:
    """Return the encoder of a preset of `train-encoder`; None if there is no such preset."""
    try:
        shipped = load_preset("lavit_tokenizer", "train-encoder", str(preset))
    except UsageError:
        return None
    return resolve(TrainEncoderConfig, preset=shipped).vision


def plan_tokenize(data: Path | Source, model: Path, config: TokenizeConfig, *, device: str = "auto") -> dict[str, Any]:
    """Return what `tokenize-images` would do."""
    config = with_precision(config, device)
    images = len(open_data(data).records)
    shape = read_config(find_part(model, "tokenizer"))
    return {
        "config": config.model_dump(mode="json"),
        "images": images,
        "shards": -(-images // config.shard_samples),
        "tokens_per_image": topk_tokens(shape, config.tokens),
        "codebook_size": shape.codebook_size,
    }

"""What `--dry-run` prints: the resolved settings, parameter counts, and pictures a step."""

from pathlib import Path
from typing import Any

import torch
from lavit_core.data import open_data
from lavit_core.modeldir import find_part
from torch import nn

from lavit_tokenizer.config import TokenizeConfig, TrainEncoderConfig, TrainTokenizerConfig
from lavit_tokenizer.contrastive import ContrastiveModel
from lavit_tokenizer.encoder import load_encoder
from lavit_tokenizer.tokenizer import read_tokenizer
from lavit_tokenizer.train_tokenizer import new_tokenizer


def plan_encoder(config: TrainEncoderConfig) -> dict[str, Any]:
    """Return what `train-encoder` would do; the vocabulary is counted at its limit."""
    with torch.device("meta"):
        model = ContrastiveModel(config, config.vocabulary_size)
    return {
        "config": config.model_dump(mode="json"),
        "encoder_parameters": _count(model.vision),
        "trained_parameters": _count(model),
        "images_per_step": config.batch_size,
        "images": config.num_steps * config.batch_size,
    }


def plan_tokenizer(config: TrainTokenizerConfig, *, model: Path | None, encoder: Path | None) -> dict[str, Any]:
    """Return what `train-tokenizer` would do; parameters are counted when an encoder is given."""
    planned: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "steps": sum(phase.num_steps for phase in config.phases),
        "images_per_step": {phase.name: phase.batch_size for phase in config.phases},
        "images": sum(phase.num_steps * phase.batch_size for phase in config.phases),
    }
    if model is not None or encoder is not None:
        folder = encoder if encoder is not None else find_part(Path(str(model)), "encoder")
        tokenizer = new_tokenizer(config, load_encoder(folder))
        parts = ("encoder", "selector", "merger", "encode_task_layer", "decoder")
        planned["parameters"] = {name: _count(getattr(tokenizer, name)) for name in parts}
        planned["codebook_entries"] = tokenizer.quantizer.codebook.numel()
        planned["tokens_per_image"] = round(config.model.keep_ratio * tokenizer.config.num_patches)
    return planned


def plan_tokenize(data: Path, model: Path, config: TokenizeConfig) -> dict[str, Any]:
    """Return what `tokenize-images` would do."""
    images = len(open_data(data).records)
    shape = read_tokenizer(find_part(model, "tokenizer")).config
    return {
        "config": config.model_dump(mode="json"),
        "images": images,
        "shards": -(-images // config.shard_samples),
        "tokens_per_image": round(shape.keep_ratio * shape.num_patches),
        "codebook_size": shape.codebook_size,
    }


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

"""An encoder's folder: the small ViT of `train-encoder`, or any local transformers vision folder."""

from pathlib import Path

import torch
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from lavit_trainkit.external_weights import load_strictly, require_fit
from lavit_trainkit.pretrained import quiet_transformers
from safetensors.torch import save_file

from lavit_tokenizer.config import SMALL_VIT, SmallVitConfig
from lavit_tokenizer.encoder import Encoder, small_encoder
from lavit_tokenizer.pretrained_encoder import (
    VISION_CLASSES,
    load_pretrained_encoder,
    pretrained_encoder_on_meta_device,
    save_preprocessing,
)
from lavit_tokenizer.small_vit import SmallVit


def load_encoder(folder: Path) -> Encoder:
    """Load a frozen encoder. Raises InputError if the folder is missing, of unknown kind, or incomplete."""
    kind = _model_type(folder)
    if kind == SMALL_VIT:
        config, weights = _small_config(folder), folder / "model.safetensors"
        require_fit(folder / "config.json", weights, lambda: SmallVit(config))
        network = SmallVit(config)
        load_strictly(network, weights)
        encoder = small_encoder(network)
    else:
        encoder = load_pretrained_encoder(folder, _class_of(folder, kind))
    return encoder.eval().requires_grad_(False)


def encoder_on_meta_device(folder: Path) -> Encoder:
    """Return a folder's encoder as names and shapes alone (torch's meta device), from its configuration.

    Raises InputError if the folder is missing or of unknown kind.
    """
    kind = _model_type(folder)
    if kind != SMALL_VIT:
        return pretrained_encoder_on_meta_device(folder, _class_of(folder, kind))
    config = _small_config(folder)
    with torch.device("meta"):
        return small_encoder(SmallVit(config))


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Write the network as config.json and safetensors, with the preprocessing beside it for transformers' networks."""
    folder.mkdir(parents=True, exist_ok=True)
    network = encoder.network
    if isinstance(network, SmallVit):
        write_json(folder / "config.json", network.config.model_dump(mode="json"))
        save_file(
            {name: value.contiguous().cpu() for name, value in network.state_dict().items()},
            folder / "model.safetensors",
        )
        return
    with quiet_transformers():
        network.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
    save_preprocessing(encoder.preprocessing, folder)


def _model_type(folder: Path) -> str:
    if not folder.is_dir():
        raise InputError(f"{folder}: no encoder folder here; `lavit train-encoder` makes one")
    stored = read_json(folder / "config.json")
    return str(stored.get("model_type") if isinstance(stored, dict) else None)


def _class_of(folder: Path, kind: str) -> str:
    if kind not in VISION_CLASSES:
        known = ", ".join(sorted({SMALL_VIT, *VISION_CLASSES}))
        raise InputError(f"{folder / 'config.json'}: model_type is {kind!r}, expected one of {known}")
    return VISION_CLASSES[kind]


def _small_config(folder: Path) -> SmallVitConfig:
    try:
        return SmallVitConfig.model_validate(read_json(folder / "config.json"))
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'}: not a {SMALL_VIT} ({' '.join(str(error).split())})") from None

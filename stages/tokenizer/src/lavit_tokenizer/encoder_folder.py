"""An encoder's folder: the small ViT of `train-encoder`, or any local transformers vision folder."""

from pathlib import Path

import torch
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from lavit_trainkit.external_weights import load_strictly, require_fit
from lavit_trainkit.pretrained import quiet_transformers
from safetensors.torch import save_file

from lavit_tokenizer.config import SMALL_VIT, EncoderFeatures, SmallVitConfig
from lavit_tokenizer.encoder import Encoder, small_encoder
from lavit_tokenizer.encoder_preprocessing import save_preprocessing
from lavit_tokenizer.pretrained_encoder import load_pretrained_encoder, pretrained_encoder_on_meta_device
from lavit_tokenizer.small_vit import SmallVit

FEATURES_FILE = "features.json"
"""Which features a tokenizer's encoder gives, beside a network of transformers."""


def load_encoder(folder: Path, features: EncoderFeatures | None = None) -> Encoder:
    """Load a frozen encoder that gives the `features` asked for, by default those that it was stored with.

    Raises InputError with the reason if the folder is missing or incomplete, or its network gives no such features.
    """
    kind = _model_type(folder)
    if kind == SMALL_VIT:
        _refuse_choice(folder, features)
        config, weights = _small_config(folder), folder / "model.safetensors"
        require_fit(folder / "config.json", weights, lambda: SmallVit(config))
        network = SmallVit(config)
        load_strictly(network, weights)
        encoder = small_encoder(network)
    else:
        encoder = load_pretrained_encoder(folder, features or _stored_features(folder))
    return encoder.eval().requires_grad_(False)


def encoder_on_meta_device(folder: Path, features: EncoderFeatures | None = None) -> Encoder:
    """Return a folder's encoder as names and shapes alone (torch's meta device), from its configuration.

    Raises InputError if the folder is missing or of unknown kind.
    """
    kind = _model_type(folder)
    if kind != SMALL_VIT:
        return pretrained_encoder_on_meta_device(folder, features or _stored_features(folder))
    _refuse_choice(folder, features)
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
    assert encoder.reader is not None
    features = EncoderFeatures(layer=encoder.reader.layer, norm=encoder.reader.norm)
    if features != EncoderFeatures():  # folders with the usual features are read by earlier versions too
        write_json(folder / FEATURES_FILE, features.model_dump(mode="json"))


def _model_type(folder: Path) -> str:
    if not folder.is_dir():
        raise InputError(f"{folder}: no encoder folder here; `lavit train-encoder` makes one")
    stored = read_json(folder / "config.json")
    return str(stored.get("model_type") if isinstance(stored, dict) else None)


def _stored_features(folder: Path) -> EncoderFeatures:
    file = folder / FEATURES_FILE
    try:
        return EncoderFeatures.model_validate(read_json(file)) if file.exists() else EncoderFeatures()
    except ValueError as error:
        raise InputError(f"{file}: not a choice of features ({' '.join(str(error).split())})") from None


def _refuse_choice(folder: Path, features: EncoderFeatures | None) -> None:
    if features is not None and features != EncoderFeatures():
        raise InputError(
            f"encoder: {features.model_dump()}, but {folder} is a {SMALL_VIT}, which gives one kind of features"
        )


def _small_config(folder: Path) -> SmallVitConfig:
    try:
        return SmallVitConfig.model_validate(read_json(folder / "config.json"))
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'}: not a {SMALL_VIT} ({' '.join(str(error).split())})") from None

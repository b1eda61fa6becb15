"""Image encoders of transformers, read from a local folder. Never remote code."""

from pathlib import Path
from typing import Any

import torch
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from lavit_core.images import CLIP_MEAN, CLIP_STD, Preprocessing
from lavit_trainkit.pretrained import load_pretrained

from lavit_tokenizer.encoder import Encoder

VISION_CLASSES = {
    "blip-2": "Blip2VisionModel",
    "blip_2_vision_model": "Blip2VisionModel",
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "dinov2": "Dinov2Model",
}
"""model_type in config.json -> class of transformers."""

DEFAULT_NORMALISATION = {
    "SiglipVisionModel": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "Dinov2Model": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Published input normalisation of each family, for folders without preprocessor_config.json; CLIP's otherwise."""


def load_pretrained_encoder(folder: Path, class_name: str) -> Encoder:
    """Load a network of a class of transformers. Raises InputError if the folder is incomplete."""
    import transformers

    network = load_pretrained(getattr(transformers, class_name), folder, what=class_name, use_safetensors=True)
    return _wrapped(network, folder, class_name)


def pretrained_encoder_on_meta_device(folder: Path, class_name: str) -> Encoder:
    """Return a network of names and shapes alone, from its configuration.

    Raises InputError if config.json is not of this class.
    """
    import transformers

    network_class = getattr(transformers, class_name)
    try:
        config = network_class.config_class.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            network = network_class(config)
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{folder / 'config.json'}: not a {class_name}'s ({reason})") from None
    return _wrapped(network, folder, class_name)


def save_preprocessing(preprocessing: Preprocessing, folder: Path) -> None:
    """Write the preprocessing under the names that transformers gives it."""
    size = {"height": preprocessing.image_px, "width": preprocessing.image_px}
    values = {"size": size, "image_mean": preprocessing.mean, "image_std": preprocessing.std}
    write_json(folder / "preprocessor_config.json", values)


def _wrapped(network: Any, folder: Path, class_name: str) -> Encoder:
    config = network.config
    side = config.image_size // config.patch_size
    return Encoder(
        network,
        preprocessing=_preprocessing(folder, class_name, config.image_size),
        grid=(side, side),
        feature_dim=config.hidden_size,
        num_prefix=0 if class_name == "SiglipVisionModel" else 1,
    )


def _preprocessing(folder: Path, class_name: str, image_px: int) -> Preprocessing:
    file = folder / "preprocessor_config.json"
    stored: dict[str, Any] = read_json(file) if file.exists() else {}
    mean, std = DEFAULT_NORMALISATION.get(class_name, (CLIP_MEAN, CLIP_STD))
    return Preprocessing(image_px=image_px, mean=stored.get("image_mean", mean), std=stored.get("image_std", std))

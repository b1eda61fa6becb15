"""Image encoders of transformers from a local folder: any network whose tokens are patches. Never remote code."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import torch
from lavit_core.errors import InputError
from lavit_core.progress import warn
from lavit_trainkit.pretrained import load_pretrained

from lavit_tokenizer.config import EncoderFeatures
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.encoder_preprocessing import read_preprocessing, resizing_difference, stored_side
from lavit_tokenizer.patch_features import PatchReader, blocks_of, find_patches, has_norm, square_side

SUITABLE = "expected a vision transformer whose tokens are patches (CLIP, SigLIP, DINOv2, DINOv3, ViT ...)"


def load_pretrained_encoder(folder: Path, features: EncoderFeatures) -> Encoder:
    """Load a vision network of transformers, and measure which of its tokens are patches.

    Raises InputError with the reason if the folder is incomplete, or the network can't serve.
    """
    network_class = vision_class(folder)
    # A pooler is not used, and many weights are published without it.
    has_pooler = "add_pooling_layer" in inspect.signature(network_class.__init__).parameters
    arguments: dict[str, Any] = {"add_pooling_layer": False} if has_pooler else {}
    network = load_pretrained(network_class, folder, what=network_class.__name__, use_safetensors=True, **arguments)
    return _encoder(network.eval(), folder, features, measure=True)


def pretrained_encoder_on_meta_device(folder: Path, features: EncoderFeatures) -> Encoder:
    """Return a network of names and shapes alone, from its configuration.

    Raises InputError if config.json is not one of a vision network.
    """
    network_class = vision_class(folder)
    try:
        config = network_class.config_class.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            network = network_class(config)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder / 'config.json'}: not a {network_class.__name__}'s ({_line(error)})") from None
    return _encoder(network.eval(), folder, features, measure=False)


def vision_class(folder: Path) -> Any:
    """Return the class of transformers for a folder's vision network, or for that inside a model of images and text.

    Raises InputError if transformers has none.
    """
    from transformers import MODEL_MAPPING, AutoConfig

    file = folder / "config.json"
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - a configuration fails in any way that a constructor does
        raise InputError(f"{file}: not a configuration that transformers knows ({_line(error)})") from None
    config = getattr(config, "vision_config", None) or config
    kind = type(config)
    found: Any = MODEL_MAPPING.get(kind, None) or _class_beside(kind)
    if found is None or "pixel_values" not in inspect.signature(found.forward).parameters:
        raise InputError(f"{file}: model_type is {config.model_type!r}, which reads no images; {SUITABLE}")
    return found


def _class_beside(config_class: type) -> Any:
    """Return the network whose configuration a class is, from the module beside it: some are listed nowhere."""
    try:
        module = importlib.import_module(config_class.__module__.replace(".configuration_", ".modeling_"))
    except ImportError:
        return None
    suits = [
        value
        for name, value in sorted(vars(module).items())
        if name.endswith("Model") and getattr(value, "config_class", None) is config_class
    ]
    return next((value for value in suits if not value.__name__.endswith("PreTrainedModel")), None)


def _encoder(network: Any, folder: Path, features: EncoderFeatures, *, measure: bool) -> Encoder:
    config = network.config
    try:
        patch_px = square_side(getattr(config, "patch_size", None))
        own = getattr(config, "image_size", None)
        own_px = None if own is None else square_side(own)
        given_px = own_px if own_px is not None else int(config.num_patches**0.5) * patch_px
        image_px = stored_side(folder) or given_px
        takes_any = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
        reader = PatchReader(
            patch_px=patch_px,
            layer=features.layer,
            norm=features.norm,
            interpolate=takes_any and own_px is not None and image_px != own_px,
        )
        grid = (image_px // patch_px, image_px // patch_px)
        if not -len(blocks_of(network)) <= features.layer < len(blocks_of(network)):
            raise InputError(f"encoder.layer: {features.layer}, but {folder} has {len(blocks_of(network))} blocks")
        num_prefix = find_patches(reader, network, grid, image_px) if measure else None
        width, counted = _shape(reader, network, grid, image_px)
        if measure and features.norm and not has_norm(reader, network, image_px):
            raise InputError(f"encoder.norm: true, but {folder} has no norm after its last block for patches")
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - each network raises its own kinds when it can't be called this way
        raise InputError(
            f"{folder}: a {config.model_type} network can't be an encoder ({_line(error)}); {SUITABLE}"
        ) from None
    if measure and (difference := resizing_difference(folder, image_px)) is not None:
        warn(f"{folder}: images are resized to {image_px} x {image_px} bicubically, without a crop; {difference}")
    return Encoder(
        network,
        preprocessing=read_preprocessing(folder, config.model_type, image_px),
        grid=grid,
        feature_dim=width,
        num_prefix=counted if num_prefix is None else num_prefix,
        reader=reader,
    )


def _shape(reader: PatchReader, network: Any, grid: tuple[int, int], image_px: int) -> tuple[int, int]:
    """Return the width of a network's features, and how many of its tokens are no patches.

    A network of the same configuration on the meta device is asked first: there a forward pass costs nothing.
    """
    with torch.device("meta"):
        absent = type(network)(network.config).eval()
    pixels = torch.zeros(1, 3, image_px, image_px, dtype=next(absent.parameters()).dtype)
    with torch.no_grad():
        try:
            tokens_BND = reader.tokens(absent, pixels.to("meta"))
        except RuntimeError:  # it looks at values, which the meta device has none of
            tokens_BND = reader.tokens(network, pixels.to(next(network.parameters())))
    extra = tokens_BND.shape[1] - grid[0] * grid[1]
    if tokens_BND.ndim != 3 or extra < 0:
        shape, patches = list(tokens_BND.shape), grid[0] * grid[1]
        raise ValueError(f"its features have shape {shape}, expected [1, {patches} or more, width]")
    return tokens_BND.shape[-1], extra


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

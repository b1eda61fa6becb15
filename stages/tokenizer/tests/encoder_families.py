"""Tiny random image encoders of many families, and what `lavit train-tokenizer --encoder` makes of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from lavit_tokenizer.pretrained_encoder import vision_class
from transformers import AutoConfig

_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 4,
    "image_size": 16,
}
_NAFLEX = {key: value for key, value in _VIT.items() if key != "image_size"} | {"num_patches": 16}

FAMILIES: dict[str, tuple[dict[str, Any], int]] = {
    "clip": ({"vision_config": _VIT}, 1),
    "clip_vision_model": (_VIT, 1),
    "siglip": ({"vision_config": _VIT}, 0),
    "siglip_vision_model": (_VIT, 0),
    "siglip2": ({"vision_config": _NAFLEX}, 0),
    "siglip2_vision_model": (_NAFLEX, 0),
    "blip-2": ({"vision_config": _VIT}, 1),
    "blip_2_vision_model": (_VIT, 1),
    "dinov2": (_VIT, 1),
    "dinov2_with_registers": ({**_VIT, "num_register_tokens": 4}, 5),
    "dinov3_vit": ({**_VIT, "num_register_tokens": 4}, 5),
    "vit": (_VIT, 1),
    "deit": (_VIT, 2),
    "beit": (_VIT, 1),
    "ijepa": (_VIT, 0),
    "vit_msn": (_VIT, 1),
    "aimv2": ({"vision_config": _VIT}, 0),
    "aimv2_vision_model": (_VIT, 0),
    "metaclip_2_vision_model": (_VIT, 1),
    "mlcd_vision_model": (_VIT, 1),
    "chinese_clip_vision_model": (_VIT, 1),
    "internvl_vision": (_VIT, 1),
    "radio": (_VIT, 10),
    "pixio": (_VIT, 8),
    "tipsv2_vision_model": (_VIT, 2),
}
"""model_type -> settings, and how many tokens come before the patches."""

WITHOUT_NORM = {
    *("clip", "clip_vision_model", "metaclip_2_vision_model", "mlcd_vision_model", "chinese_clip_vision_model"),
    *("beit", "internvl_vision", "radio"),
}
"""Families whose patches pass no norm after the last block."""

_SQUARE: dict[str, Any] = {"size": {"height": 16, "width": 16}, "do_center_crop": False}
_CROP: dict[str, Any] = {
    "size": {"shortest_edge": 16},
    "do_center_crop": True,
    "crop_size": {"height": 16, "width": 16},
}
_PATCHES: dict[str, Any] = {"patch_size": 4, "max_num_patches": 16}
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    **dict.fromkeys(("clip", "clip_vision_model", "metaclip_2_vision_model"), ("CLIPImageProcessorPil", _CROP)),
    **dict.fromkeys(("aimv2", "aimv2_vision_model"), ("CLIPImageProcessorPil", _CROP)),
    **dict.fromkeys(("siglip", "siglip_vision_model"), ("SiglipImageProcessorPil", _SQUARE)),
    **dict.fromkeys(("siglip2", "siglip2_vision_model"), ("Siglip2ImageProcessorPil", _PATCHES)),
    **dict.fromkeys(("blip-2", "blip_2_vision_model"), ("BlipImageProcessorPil", _SQUARE)),
    **dict.fromkeys(("dinov2", "dinov2_with_registers", "pixio"), ("BitImageProcessorPil", _CROP)),
    **dict.fromkeys(("vit", "ijepa", "vit_msn"), ("ViTImageProcessorPil", _SQUARE)),
    "deit": ("DeiTImageProcessorPil", _CROP),
    "beit": ("BeitImageProcessorPil", _SQUARE),
    "chinese_clip_vision_model": ("ChineseCLIPImageProcessorPil", _CROP),
}
"""model_type -> the family's own processor, for 16 pixels; the others have one that needs torchvision, or none."""

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "vit_mae": (_VIT, "change tokens"),
    "vitdet": (_VIT, "its tokens have shape [5, 16, 4, 4]"),
    "sam_vision_model": (_VIT, "its tokens have shape [5, 4, 4, 16]"),
    "pixtral": (_VIT, "its tokens have shape [1, 80, 16]"),
    "convnext": (_VIT, "its tokens have shape [5, 384, 1, 1]"),
}
"""model_type -> settings, and a part of the reason."""


QUICK = {"clip", "siglip2", "dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "aimv2", "blip-2", "radio"}
"""Families whose tests are not slow: each has something that no other has."""


def each_of(families: Iterable[str]) -> list[Any]:
    """Return families as test parameters."""
    return [pytest.param(name, id=name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(families)]


def write_family(folder: Path, model_type: str, shape: dict[str, Any]) -> Any:
    """Write a random network of a family and return it."""
    torch.manual_seed(0)
    AutoConfig.for_model(model_type, **shape).save_pretrained(folder)
    network_class = vision_class(folder)
    network = network_class(network_class.config_class.from_pretrained(folder)).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)  # features that differ from patch to patch
    network.save_pretrained(folder)
    return network

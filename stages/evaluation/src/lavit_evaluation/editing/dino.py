"""DINO (Caron et al. 2021, arXiv 2104.14294) from a local transformers directory: one vector for each image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.errors import InputError
from lavit_core.files import read_json
from lavit_core.images import Preprocessing

from lavit_evaluation.image_metrics.frozen_network import describe, load_frozen

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORTER_PX, INPUT_PX = 256, 224
"""Shorter side, then the middle square, as in MagicBrush's script."""

OFFICIAL_SHAPE = "patch 16, width 384, 12 layers"
"""ViT-S/16, which that script loads."""


@dataclass(frozen=True, kw_only=True)
class Dino:
    """A DINO as a function."""

    images: Callable[[Sequence[np.ndarray]], np.ndarray]
    """uint8 [224, 224, 3] images -> float32 [N, D] of length one: the class token after the last norm."""
    metadata: dict[str, Any]


def load_dino(folder: Path, device: str) -> Dino:
    """Load a ViT of DINO (facebook/dino-vits16 and its kin). Raises InputError if `folder` is not one."""
    if not (folder / "config.json").is_file():
        raise InputError(f"--dino {folder}: no config.json here, expected a transformers directory of DINO's ViT")
    config = read_json(folder / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "vit":
        raise InputError(
            f"--dino {folder}: model_type is {kind!r}, expected 'vit' (facebook/dino-vits16); DINOv2 is another metric"
        )
    model = load_frozen("ViTModel", folder, device, option="--dino", what="ViT", metric="DINO", add_pooling_layer=False)
    import torch
    from lavit_trainkit.pixels import normalise

    if model.config.image_size != INPUT_PX:
        raise InputError(f"--dino {folder}: image_size is {model.config.image_size}, expected {INPUT_PX}")
    preprocessing = Preprocessing(image_px=INPUT_PX, mean=MEAN, std=DEVIATION)

    @torch.inference_mode()
    def images(batch: Sequence[np.ndarray]) -> np.ndarray:
        pixels = normalise(torch.from_numpy(np.stack(batch)).to(model.device), preprocessing)
        rows = model(pixel_values=pixels).last_hidden_state[:, 0]
        return torch.nn.functional.normalize(rows, dim=-1).cpu().numpy()

    return Dino(images=images, metadata=describe("dino", folder, model.config))

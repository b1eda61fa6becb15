"""DINO (Caron et al. 2021, arXiv 2104.14294) from a local transformers directory: one vector for each image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.distributions import require_stages
from lavit_core.errors import InputError
from lavit_core.files import read_json

from lavit_evaluation.image_metrics.weight_digests import weight_digests

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
    try:
        with require_stages("DINO"):
            import torch
            from lavit_trainkit.device import pick_device
            from lavit_trainkit.pretrained import load_pretrained
            from transformers import ViTModel
            from transformers.utils import logging
    except ModuleNotFoundError as error:
        raise InputError(f"DINO needs {error.name}; run `pip install {error.name}`") from None
    where = pick_device(device)
    logging.disable_progress_bar()  # a second bar beside the job's own
    # In fp32 also where half-precision weights are stored: a score must not hang on how a folder was saved.
    model = load_pretrained(ViTModel, folder, option="--dino", what="ViT", dtype=torch.float32, add_pooling_layer=False)
    model = model.eval().requires_grad_(False).to(where)
    if model.config.image_size != INPUT_PX:
        raise InputError(f"--dino {folder}: image_size is {model.config.image_size}, expected {INPUT_PX}")
    mean = torch.tensor(MEAN, device=where).view(1, 3, 1, 1)
    deviation = torch.tensor(DEVIATION, device=where).view(1, 3, 1, 1)

    @torch.inference_mode()
    def images(batch: Sequence[np.ndarray]) -> np.ndarray:
        pixels = torch.from_numpy(np.stack(batch)).to(where).permute(0, 3, 1, 2).float() / 255
        rows = model(pixel_values=(pixels - mean) / deviation).last_hidden_state[:, 0]
        return torch.nn.functional.normalize(rows, dim=-1).cpu().numpy()

    shape = f"patch {model.config.patch_size}, width {model.config.hidden_size}"
    shape += f", {model.config.num_hidden_layers} layers"
    metadata = {"dino": str(folder), "dino_shape": shape, "dino_digests": weight_digests(folder)}
    return Dino(images=images, metadata=metadata)

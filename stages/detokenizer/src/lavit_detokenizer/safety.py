"""Stable Diffusion's safety checker, from a local directory: images that it flags are made black.

Source: the released code with check_safety; diffusers' StableDiffusionSafetyChecker decides.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lavit_core.errors import InputError
from lavit_core.images import Preprocessing, middle_square
from lavit_trainkit.device import pick_device
from lavit_trainkit.external_weights import load_strictly, read_tensors, weight_files
from lavit_trainkit.pixels import normalise
from PIL import Image

SafetyChecker = Callable[[np.ndarray], np.ndarray]
"""Images uint8 [B, h, w, 3] -> bool [B], true where an image is flagged."""


def load_safety_checker(folder: Path, *, device: str = "auto") -> SafetyChecker:
    """Return the checker of a transformers directory (config.json; safetensors or a plain torch checkpoint), in fp32.

    Raises InputError if `folder` is not a directory of StableDiffusionSafetyChecker.
    """
    checker = _load(folder).to(pick_device(device)).eval().requires_grad_(False)
    vision = checker.config.vision_config
    preprocessing = Preprocessing(image_px=int(vision.image_size))

    @torch.inference_mode()
    def flagged(pixels_BHW3: np.ndarray) -> np.ndarray:
        found = np.zeros(len(pixels_BHW3), dtype=bool)
        side = preprocessing.image_px
        for place, image in enumerate(pixels_BHW3):  # one by one: the checker's loop over concepts is the slow part
            square = middle_square(Image.fromarray(image), side, side)
            seen = normalise(torch.from_numpy(square.copy())[None].to(checker.device), preprocessing)
            found[place] = checker(clip_input=seen, images=[np.zeros(1)])[1][0]
        return found

    return flagged


def _load(folder: Path) -> Any:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    if not (folder / "config.json").is_file():
        raise InputError(
            f"--safety-checker {folder}: no config.json here, expected a directory of StableDiffusionSafetyChecker"
        )
    try:
        checker = StableDiffusionSafetyChecker(CLIPConfig.from_pretrained(folder, local_files_only=True))
    # Each version of transformers refuses a malformed configuration with errors of its own.
    except Exception as error:  # noqa: BLE001
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--safety-checker {folder}: config.json is not of a safety checker ({reason})") from None
    tensors: dict[str, torch.Tensor] = {}
    files = weight_files(folder, ("model", "pytorch_model"))
    for file in files:
        # Older versions stored position_ids, which every version computes.
        tensors |= {name: value for name, value in read_tensors(file).items() if not name.endswith("position_ids")}
    own = {_plain(name): name for name in checker.state_dict()}
    tensors = {own.get(_plain(name), name): value for name, value in tensors.items()}
    load_strictly(checker, files[0], tensors)
    return checker.float()


def _plain(name: str) -> str:
    # transformers 5 nests CLIP's vision model once less than the published files.
    return name.replace("vision_model.vision_model.", "vision_model.", 1)

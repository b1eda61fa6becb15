"""A vision folder's `preprocessor_config.json`, as far as resizing to a square without a crop can follow it."""

from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from lavit_core.images import CLIP_MEAN, CLIP_STD, Preprocessing

PREPROCESSOR_FILE, PROCESSOR_FILE = "preprocessor_config.json", "processor_config.json"
BICUBIC = 3
"""PIL's number of the resampling that images are resized with."""

Triple = tuple[float, float, float]

HALF = (0.5, 0.5, 0.5)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DEFAULT_NORMALISATION = {
    "siglip_vision_model": (HALF, HALF),
    "siglip2_vision_model": (HALF, HALF),
    "vit": (HALF, HALF),
    "dinov2": IMAGENET,
    "dinov2_with_registers": IMAGENET,
    "dinov3_vit": IMAGENET,
}
"""Published input normalisation of families, for folders without preprocessor_config.json; CLIP's otherwise."""


def stored_processor(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the settings of a folder's image processor and the file that has them; empty without such a file.

    Raises InputError if a value is of another kind.
    """
    for name in (PREPROCESSOR_FILE, PROCESSOR_FILE):
        if (file := folder / name).exists():
            stored = read_json(file)
            stored = stored.get("image_processor", stored) if isinstance(stored, dict) else None
            if not isinstance(stored, dict):
                raise InputError(f"{file}: not the settings of an image processor; copy it again")
            return file, stored
    return folder / PREPROCESSOR_FILE, {}


def stored_side(folder: Path) -> int | None:
    """Return the side of the square that a folder's processor gives to the network, if it gives one."""
    _, stored = stored_processor(folder)
    for key in ("crop_size", "size") if stored.get("do_center_crop") else ("size",):
        size = stored.get(key)
        if isinstance(size, int):
            return size
        if isinstance(size, dict) and isinstance(size.get("height"), int) and size["height"] == size.get("width"):
            return int(size["height"])
        if isinstance(size, dict) and isinstance(size.get("shortest_edge"), int):
            return int(size["shortest_edge"])
    return None


def read_preprocessing(folder: Path, model_type: str, image_px: int) -> Preprocessing:
    """Return mean and deviation of a folder's processor on the [0, 1] scale, else those published for its family.

    Raises InputError if the processor does something to pixels that normalisation can't.
    """
    file, stored = stored_processor(folder)
    if stored.get("do_flip_channel_order"):
        raise InputError(f"{file}: do_flip_channel_order is true, and images are given as RGB")
    published = DEFAULT_NORMALISATION.get(model_type, (CLIP_MEAN, CLIP_STD))
    mean, std = _three(file, stored, "image_mean", published[0]), _three(file, stored, "image_std", published[1])
    if stored.get("do_normalize") is False:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    # (x * factor - mean) / std, written for x / 255.
    factor = 1.0 if stored.get("do_rescale") is False else stored.get("rescale_factor", 1 / 255)
    scale = 1.0 if abs(factor * 255 - 1) < 1e-6 else factor * 255
    return Preprocessing(image_px=image_px, mean=_divided(mean, scale), std=_divided(std, scale))


def resizing_difference(folder: Path, image_px: int) -> str | None:
    """Return what a folder's processor does to an image's shape that is done otherwise here; None if nothing."""
    _, stored = stored_processor(folder)
    said = []
    if stored.get("resample", BICUBIC) != BICUBIC:
        said.append("resamples in another way")
    size = stored.get("size")
    if stored.get("do_center_crop") and isinstance(size, dict) and size.get("shortest_edge", image_px) != image_px:
        said.append(f"crops the middle of {size['shortest_edge']} pixels")
    return f"its own processor {' and '.join(said)}" if said else None


def save_preprocessing(preprocessing: Preprocessing, folder: Path) -> None:
    """Write the preprocessing under the names that transformers gives it."""
    size = {"height": preprocessing.image_px, "width": preprocessing.image_px}
    values = {"size": size, "image_mean": preprocessing.mean, "image_std": preprocessing.std}
    write_json(folder / PREPROCESSOR_FILE, values)


def _divided(values: Triple, by: float) -> Triple:
    red, green, blue = (value / by for value in values)
    return red, green, blue


def _three(file: Path, stored: dict[str, Any], key: str, default: Triple) -> Triple:
    value = stored.get(key, default)
    if isinstance(value, int | float):
        value = [value] * 3
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(isinstance(x, int | float) for x in value):
        raise InputError(f"{file}: {key} is {value!r}, expected three numbers")
    red, green, blue = map(float, value)
    return red, green, blue

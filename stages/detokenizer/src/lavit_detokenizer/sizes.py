"""Sizes of drawn images: a detokenizer's square, and the other aspect ratios of SDXL."""

from pathlib import Path

from lavit_core.errors import UsageError
from lavit_core.modeldir import find_part

from lavit_detokenizer.config import AspectRatio, DetokenizerConfig
from lavit_detokenizer.folder import read_config

SIXTEENTHS: dict[AspectRatio, tuple[int, int]] = {
    "1:1": (16, 16),
    "4:3": (14, 18),
    "3:2": (13, 19),
    "16:9": (12, 21),
    "2:3": (19, 13),
    "3:4": (18, 14),
}
"""Height and width in sixteenths of the square's side: 896 x 1152 for 4:3 at 1024 px, and so on.

Source: `ratio_dict` in the released code's README; about as many pixels in each.
"""


def image_size(config: DetokenizerConfig, aspect_ratio: AspectRatio) -> tuple[int, int]:
    """Return height and width of a detokenizer's images, in pixels.

    Raises UsageError for another shape than the square if the detokenizer has no size ids.
    """
    side = config.image_px
    if aspect_ratio == "1:1":
        return side, side
    if config.condition.pooled_dim is None or config.condition.concatenated:
        raise UsageError(
            f"--aspect-ratio {aspect_ratio}: this detokenizer draws {side} x {side} px only; other shapes need one "
            "with SDXL's size ids (imported weights: --highres)"
        )
    if side % 16:
        raise UsageError(f"--aspect-ratio {aspect_ratio}: image_px {side} is not a multiple of 16")
    height, width = SIXTEENTHS[aspect_ratio]
    return height * side // 16, width * side // 16


def model_image_size(model: Path, part: str, aspect_ratio: AspectRatio) -> tuple[int, int]:
    """Return `image_size` of a model's detokenizer part without loading its weights.

    Raises UsageError as `image_size` does, InputError if the part is missing.
    """
    return image_size(read_config(find_part(model, part)), aspect_ratio)

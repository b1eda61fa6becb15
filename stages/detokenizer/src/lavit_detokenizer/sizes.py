"""Sizes of drawn images: those that a detokenizer was trained on, its square alone, or the aspect ratios of SDXL."""

import math
from collections.abc import Sequence
from pathlib import Path

from lavit_core.errors import UsageError
from lavit_core.modeldir import find_part

from lavit_detokenizer.config import AspectRatio, DetokenizerConfig, DrawSettings
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


def trained_sizes(config: DetokenizerConfig) -> list[tuple[int, int]]:
    """Return height and width in pixels of the images that a detokenizer learns, the default's first."""
    return [height_width(size) for size in config.sizes] or [(config.image_px, config.image_px)]


def drawn_sizes(config: DetokenizerConfig) -> list[tuple[int, int]]:
    """Return height and width in pixels of the images that a detokenizer draws, the default's first: those that it
    learned, or of SDXL the published ones."""
    if config.sizes or not _has_size_ids(config) or config.image_px % 16:
        return trained_sizes(config)
    return [_by_ratio(config, ratio) for ratio in SIXTEENTHS]


def image_size(config: DetokenizerConfig, settings: DrawSettings) -> tuple[int, int]:
    """Return height and width in pixels of the images that a detokenizer draws by settings.

    Raises UsageError, which lists the others, for a size that it does not draw.
    """
    sizes, ratio = drawn_sizes(config), settings.aspect_ratio
    if settings.size is not None:
        if height_width(settings.size) not in sizes:
            raise UsageError(f"--size {settings.size}: this detokenizer draws {size_names(sizes)} px only")
        return height_width(settings.size)
    if ratio == "1:1":
        return sizes[0]
    if config.sizes:
        raise UsageError(f"--aspect-ratio {ratio}: this detokenizer draws {size_names(sizes)} px; ask with --size")
    if not _has_size_ids(config):
        side = config.image_px
        raise UsageError(
            f"--aspect-ratio {ratio}: this detokenizer draws {side} x {side} px only; other shapes need one "
            "with SDXL's size ids (imported weights: --highres), or one trained on sizes"
        )
    if config.image_px % 16:
        raise UsageError(f"--aspect-ratio {ratio}: image_px {config.image_px} is not a multiple of 16")
    return _by_ratio(config, ratio)


def nearest_size(size_px: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> int:
    """Return the index of the size (height, width) whose ratio of sides is nearest to an image's; of several the first.

    Twice as wide is as far away as half as wide: ratios are compared by their logarithms.
    """

    def shape(one: tuple[int, int]) -> float:
        return math.log(one[1] / one[0])

    # Rounded: 4:3 lies between 16:9 and 1:1 the same way as 3:4 between 9:16 and 1:1, whatever the last bit says.
    distances = [round(abs(shape(one) - shape(size_px)), 9) for one in sizes]
    return distances.index(min(distances))


def fitting_settings(
    config: DetokenizerConfig, settings: DrawSettings, images_px: Sequence[tuple[int, int]]
) -> list[DrawSettings]:
    """Return the settings that draw each image (height, width) at the trained size nearest to its shape; as they are
    where they ask for a size or an aspect ratio, or one size alone was trained."""
    if not config.sizes or settings.size is not None or settings.aspect_ratio != "1:1":
        return [settings] * len(images_px)
    sizes = trained_sizes(config)
    return [settings.model_copy(update={"size": config.sizes[nearest_size(one, sizes)]}) for one in images_px]


def model_fitting_settings(
    model: Path, part: str, settings: DrawSettings, images_px: Sequence[tuple[int, int]]
) -> list[DrawSettings]:
    """Return `fitting_settings` of a model's detokenizer part without loading its weights. Raises InputError."""
    return fitting_settings(read_config(find_part(model, part)), settings, images_px)


def model_sizes(model: Path, part: str) -> list[tuple[int, int]]:
    """Return `drawn_sizes` of a model's detokenizer part without loading its weights. Raises InputError."""
    return drawn_sizes(read_config(find_part(model, part)))


def model_image_size(model: Path, part: str, settings: DrawSettings) -> tuple[int, int]:
    """Return `image_size` of a model's detokenizer part without loading its weights.

    Raises UsageError as `image_size` does, InputError if the part is missing.
    """
    return image_size(read_config(find_part(model, part)), settings)


def height_width(size: str) -> tuple[int, int]:
    """Return height and width of a size that is written width x height."""
    width, height = size.split("x")
    return int(height), int(width)


def size_name(size_px: tuple[int, int]) -> str:
    """Return a height and width as width x height."""
    return f"{size_px[1]}x{size_px[0]}"


def size_names(sizes: Sequence[tuple[int, int]]) -> str:
    """Return several sizes in words."""
    return ", ".join(size_name(one) for one in sizes)


def _has_size_ids(config: DetokenizerConfig) -> bool:
    return config.condition.pooled_dim is not None and not config.condition.concatenated


def _by_ratio(config: DetokenizerConfig, ratio: AspectRatio) -> tuple[int, int]:
    if ratio == "1:1":
        return config.image_px, config.image_px
    height, width = SIXTEENTHS[ratio]
    return height * config.image_px // 16, width * config.image_px // 16

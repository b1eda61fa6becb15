"""Images as callers give them: PIL images, files, arrays and tensors. Never imports torch."""

import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from lavit_core.errors import InputError
from lavit_core.image_conversion import to_rgb, upright_size
from lavit_core.images import image_height_width, open_rgb, resize_to_square
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

ImageLike: TypeAlias = "Image.Image | str | os.PathLike[str] | np.ndarray | Tensor"
"""An image: a PIL image of any mode, the path of a file, or pixels uint8 [h, w, 3] as array or tensor."""

EXPECTED = "expected a PIL image, a path, or pixels uint8 [h, w, 3]"


def as_list(images: Any) -> list[Any]:
    """Return one image, a sequence of images or a batch uint8 [B, h, w, 3] as a list of images.

    Raises InputError if there is no image.
    """
    single = isinstance(images, Image.Image | str | os.PathLike) or getattr(images, "ndim", None) == 3
    if not single and not isinstance(images, Sequence) and getattr(images, "ndim", 0) != 4:
        raise InputError(f"images: found {_found(images)}, {EXPECTED}, or several of them")
    listed = [images] if single else list(images)
    if not listed:
        raise InputError(f"images: found none, {EXPECTED}, or several of them")
    return listed


def is_image(value: Any) -> bool:
    """Return whether a part of a prompt that is no text is an image rather than codes."""
    return isinstance(value, Image.Image | os.PathLike) or getattr(value, "ndim", None) == 3


def square_images(images: Sequence[Any], image_px: int, *, first: int = 0) -> np.ndarray:
    """Return images as uint8 [B, image_px, image_px, 3], squashed bicubically as the tokenizer reads them.

    Errors count the images from `first`. Raises InputError for an unreadable file, and for another dtype or shape.
    """
    return np.stack([resize_to_square(_rgb(image, place), image_px) for place, image in enumerate(images, start=first)])


def height_width(image: Any) -> tuple[int, int]:
    """Return an image's height and width in pixels, upright. Raises InputError for an unreadable file."""
    if isinstance(image, str | os.PathLike):
        return image_height_width(Path(image))
    if isinstance(image, Image.Image):
        return upright_size(image)
    return int(image.shape[0]), int(image.shape[1])


def identity(image: Any) -> Hashable:
    """Return a key that is equal for the same file or the same object, so that repeated images are read once."""
    return Path(image) if isinstance(image, str | os.PathLike) else id(image)


def _rgb(image: Any, place: int) -> Image.Image:
    if isinstance(image, str | os.PathLike):
        return open_rgb(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    pixels = image.detach().cpu().numpy() if hasattr(image, "detach") else image
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise InputError(f"images[{place}]: found {_found(image)}, {EXPECTED}")
    if 0 in pixels.shape:
        raise InputError(f"images[{place}]: found no pixels, shape {tuple(pixels.shape)}, {EXPECTED}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _found(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{type(value).__name__} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__

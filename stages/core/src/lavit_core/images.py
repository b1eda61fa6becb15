"""Reading images the same way everywhere: fixed conversions, limits on size, no dependence on what is installed."""

import contextlib
import io
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from lavit_core.config import Config
from lavit_core.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Formats that are opened; PIL's other parsers are never run."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")

MAX_PIXELS = 89_000_000
"""Most pixels of an image that is read."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class StoredImage(Protocol):
    """An image inside another file, say a tar; `str` names it in messages."""

    def read_bytes(self) -> bytes:
        """Return the encoded image. Raises OSError."""


ImageFile = Path | StoredImage
"""Where an image lies: in a file of its own, or inside another."""


class Preprocessing(Config):
    """The steps from an image to the encoder's input; part of the tokenizer's digest."""

    image_px: int = 224
    """Side of the square input in pixels; images are resized to it (bicubic, no crop), as in the released code."""
    mean: tuple[float, float, float] = CLIP_MEAN
    """Per-channel mean on the [0, 1] scale."""
    std: tuple[float, float, float] = CLIP_STD
    """Per-channel standard deviation on the [0, 1] scale."""


def open_rgb(source: ImageFile | bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image as RGB: EXIF rotation applied, transparency on white, 16-bit scaled, first frame of animations.

    Raises InputError, naming the file and the reason, if it can't be read or is larger than `max_pixels`.
    """
    with _opened(source, max_pixels) as image:
        return to_rgb(image)


def check_image(file: Path) -> None:
    """Raise InputError, as `open_rgb` does, if `file` is not an image; only its header is read."""
    with _opened(file, MAX_PIXELS):
        pass


@contextlib.contextmanager
def _opened(source: ImageFile | bytes, max_pixels: int) -> Iterator[Image.Image]:
    name = "image" if isinstance(source, bytes) else str(source)
    try:
        # Opening a pipe would wait for somebody to write into it.
        if isinstance(source, Path) and not stat.S_ISREG(source.stat().st_mode):
            raise InputError(f"{name}: not a readable image (not a regular file)")
        stored = source if isinstance(source, Path | bytes) else source.read_bytes()
        with Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored, formats=FORMATS) as image:
            # Only the header is read so far: a bomb is refused before it is unpacked.
            if image.width * image.height > max_pixels:
                raise InputError(f"{name}: {image.width}x{image.height} pixels, more than the limit of {max_pixels}")
            yield image
    except FileNotFoundError:
        raise InputError(f"{name}: file not found") from None
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{name}: not a readable image, expected {', '.join(FORMATS)}") from None
    # PIL raises many kinds for broken content (OSError, SyntaxError, ValueError, struct.error, bomb warnings).
    except Exception as error:  # noqa: BLE001
        raise InputError(f"{name}: not a readable image ({' '.join(str(error).split())})") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a PIL image as RGB: EXIF rotation applied, transparency on white, 16-bit scaled."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        # PIL clips 16-bit grey to 255 when converting: scale it instead.
        grey = np.asarray(image, dtype=np.float64) / 257.0
        image = Image.fromarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def square_pixels(source: ImageFile | bytes, image_px: int) -> np.ndarray:
    """Return an image as uint8 [image_px, image_px, 3], resized bicubically to a square. Raises InputError."""
    return resize_to_square(open_rgb(source), image_px)


def resize_to_square(image: Image.Image, image_px: int) -> np.ndarray:
    """Return an opened RGB image as uint8 [image_px, image_px, 3], resized bicubically to a square."""
    if image.size != (image_px, image_px):
        image = image.resize((image_px, image_px), Image.Resampling.BICUBIC)
    return np.asarray(image)


def middle_square(image: Image.Image, shorter_px: int, side_px: int) -> np.ndarray:
    """Return uint8 [side_px, side_px, 3]: the shorter side brought to `shorter_px` (bicubic), the middle square of it.

    The arithmetic is that of torchvision's Resize and CenterCrop, which CLIP and DINO look through: the longer side is
    rounded down, a half pixel of margin to even.
    """
    width, height = image.size
    longer = int(shorter_px * max(width, height) / min(width, height))
    size = (longer, shorter_px) if width > height else (shorter_px, longer)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((side - side_px) / 2) for side in size)
    return np.asarray(image.crop((left, top, left + side_px, top + side_px)))


def png_bytes(pixels: np.ndarray, text: Mapping[str, str] | None = None, *, optimize: bool = False) -> bytes:
    """Return uint8 pixels [h, w, 3] as PNG, with `text` in its text chunks (UTF-8 where it is not ASCII).

    `optimize` takes longer for a smaller file.
    """
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value) if value.isascii() else info.add_itxt(key, value)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info, optimize=optimize)
    return buffer.getvalue()

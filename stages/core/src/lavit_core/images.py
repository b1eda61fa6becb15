"""Reading images the same way everywhere: fixed conversions, limits on size, no dependence on what is installed.

Metadata never costs the pixels: where EXIF, profiles or text keep Pillow from reading a file, it is read without them.
"""

import hashlib
import io
import re
import stat
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError, features
from PIL.PngImagePlugin import PngInfo

from lavit_core.config import Config
from lavit_core.errors import InputError
from lavit_core.files import update_with_file
from lavit_core.image_conversion import to_rgb, upright_size
from lavit_core.image_metadata import format_of, without_metadata
from lavit_core.image_warnings import ImageWarning

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Formats that are opened; PIL's other parsers are never run."""

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")

MAX_PIXELS = 89_000_000
"""Most pixels of an image that is read, unless a command is told another number."""

PIXELS_CEILING = 178_000_000
"""What `max_pixels` may be at most: Pillow itself refuses images of twice its own limit."""

MAX_BYTES_IN_MEMORY = 1 << 28
"""Largest file that is read into memory whole: to leave its metadata out, or to digest it on the way."""

TIFF_BITS = frozenset((1, 2, 4, 8, 16))
"""Bits a channel of a TIFF that have a defined conversion; 12, 32 and floating point have none."""

TIFF_BITS_TAG, TIFF_TILE_WIDTH_TAG, TIFF_TILE_HEIGHT_TAG = 258, 322, 323

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

ErrorKind: TypeAlias = Literal["missing", "unreadable", "too large", "too small"]
Result = TypeVar("Result")


class StoredImage(Protocol):
    """An image inside another file, say a tar; `str` names it in messages."""

    def read_bytes(self) -> bytes:
        """Return the encoded image. Raises OSError."""


ImageFile = Path | StoredImage
"""Where an image lies: in a file of its own, or inside another."""


class ImageError(InputError):
    """An image that is not read: one line that names it, and the kind of reason."""

    def __init__(self, message: str, kind: ErrorKind) -> None:
        super().__init__(message)
        self.kind = kind


class Preprocessing(Config):
    """The steps from an image to the encoder's input; part of the tokenizer's digest."""

    image_px: int = 224
    """Side of the square input in pixels; images are resized to it (bicubic, no crop), as in the released code."""
    mean: tuple[float, float, float] = CLIP_MEAN
    """Per-channel mean on the [0, 1] scale."""
    std: tuple[float, float, float] = CLIP_STD
    """Per-channel standard deviation on the [0, 1] scale."""


def open_rgb(source: ImageFile | bytes, *, min_pixels: int = 1, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image as upright RGB: transparency on white, 16-bit scaled, first frame of animations.

    Raises ImageError, naming the file and the reason, if it can't be read or its width x height is outside
    `min_pixels` to `max_pixels` (at most PIXELS_CEILING); that is decided by the header, before anything is unpacked.
    """
    return _read(source, to_rgb, min_pixels, max_pixels)


def check_image(file: Path) -> None:
    """Raise ImageError, as `open_rgb` does, if `file` is not an image; only its header is read."""
    _read(file, lambda image: None, 1, MAX_PIXELS)


def image_height_width(source: ImageFile | bytes) -> tuple[int, int]:
    """Return an image's height and width in pixels, upright. Raises ImageError as `open_rgb` does."""
    return _read(source, upright_size, 1, MAX_PIXELS)


def _read(
    source: ImageFile | bytes,
    use: Callable[[Image.Image], Result],
    min_pixels: int,
    max_pixels: int,
    digest: "hashlib._Hash | None" = None,
) -> Result:
    """Return `use` of an opened image; if that fails, of the file without its metadata."""
    name = "image" if isinstance(source, bytes) else str(source)
    stored: Path | bytes = b""
    try:
        stored = _content(source, name, digest)
        content = io.BytesIO(stored) if isinstance(stored, bytes) else stored
        try:
            return _use_opened(content, name, use, min_pixels, max_pixels)
        except (ImageError, FileNotFoundError):
            raise
        except Image.DecompressionBombError as error:  # so large that PIL does not even open it
            pixels = re.search(r"\d+ pixels", str(error))
            found = f"{name}: {pixels.group() if pixels else error}, more than the limit of {max_pixels}"
            raise ImageError(found, "too large") from None
        except Exception:
            if (bare := _without_metadata(stored)) is None:
                raise
        result = _use_opened(io.BytesIO(bare), name, use, min_pixels, max_pixels)
        warnings.warn("metadata is damaged or too large; the image was read without it", ImageWarning, stacklevel=3)
        return result
    except FileNotFoundError:
        raise ImageError(f"{name}: file not found", "missing") from None
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not a readable image{_found(stored)}", "unreadable") from None
    # PIL raises many kinds for broken content (OSError, SyntaxError, ValueError, struct.error, bomb warnings).
    except Exception as error:  # noqa: BLE001
        reason = " ".join(str(error).split())
        raise ImageError(f"{name}: not a readable image ({reason})", "unreadable") from None


def _content(source: ImageFile | bytes, name: str, digest: "hashlib._Hash | None") -> Path | bytes:
    """Return what Pillow opens, its bytes or a file; every byte enters `digest`. Raises OSError and ImageError."""
    if isinstance(source, Path):
        status = source.stat()
        # Opening a pipe would wait for somebody to write into it.
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name}: not a readable image (not a regular file)", "unreadable")
        if digest is None:
            return source
        if status.st_size > MAX_BYTES_IN_MEMORY:
            update_with_file(digest, source)
            return source
    content = source if isinstance(source, bytes) else source.read_bytes()
    if digest is not None:
        digest.update(content)
    return content


def _use_opened(
    content: Path | io.BytesIO, name: str, use: Callable[[Image.Image], Result], min_pixels: int, max_pixels: int
) -> Result:
    with Image.open(content, formats=FORMATS) as image:
        # Only the header is read so far: a bomb is refused before it is unpacked.
        size, pixels = f"{name}: {image.width}x{image.height} pixels", image.width * image.height
        if pixels > max_pixels:
            raise ImageError(f"{size}, more than the limit of {max_pixels}", "too large")
        if pixels < min_pixels:
            raise ImageError(f"{size}, fewer than the limit of {min_pixels}", "too small")
        if image.format == "TIFF":
            _check_tiff(image, name, max_pixels)
        return use(image)


def _check_tiff(image: Image.Image, name: str, max_pixels: int) -> None:
    """Raise ImageError for a TIFF whose samples have no defined conversion, and for tiles that are bombs."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(TIFF_BITS_TAG, (1,))
    if not TIFF_BITS.issuperset(bits) or image.mode in ("F", "I", "LAB"):
        message = f"{name}: TIFF of mode {image.mode}, {max(bits)} bits, expected grey, RGB or CMYK of up to 16 bits"
        raise ImageError(message, "unreadable")
    tile = (tags.get(TIFF_TILE_WIDTH_TAG, 1), tags.get(TIFF_TILE_HEIGHT_TAG, 1))
    # A tile is unpacked whole, however small the image: some room for the usual sizes.
    if tile[0] * tile[1] > max(max_pixels, 1 << 20):
        message = f"{name}: tiles of {tile[0]}x{tile[1]} pixels, more than the limit of {max_pixels}"
        raise ImageError(message, "too large")


def _without_metadata(source: Path | bytes) -> bytes | None:
    if isinstance(source, Path):
        if source.stat().st_size > MAX_BYTES_IN_MEMORY:
            return None
        source = source.read_bytes()
    return without_metadata(source)


def _found(source: Path | bytes) -> str:
    """Return what content that PIL knows nothing of looks like, for the end of an error message."""
    if isinstance(source, Path):
        with open(source, "rb") as handle:
            head = handle.read(256)
    else:
        head = source[:256]
    name = format_of(head)
    if name == "AVIF" and not features.check("avif"):
        return " (AVIF, which this Pillow was built without)"
    if name in FORMATS:
        return f" (damaged {name})"
    start = head.lstrip().lower()
    if not head or name is not None or start.startswith((b"<!doctype html", b"<html")):
        return f", expected {', '.join(FORMATS)}, found {name or ('HTML' if head else 'an empty file')}"
    return f", expected {', '.join(FORMATS)}"


def square_pixels(
    source: ImageFile | bytes,
    image_px: int,
    *,
    min_pixels: int = 1,
    max_pixels: int = MAX_PIXELS,
    digest: "hashlib._Hash | None" = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Return an image as uint8 [image_px, image_px, 3], resized bicubically to a square, in `out` if that is given.

    Its encoded bytes enter `digest`. Raises as `open_rgb` does.
    """
    image = _resized(_read(source, to_rgb, min_pixels, max_pixels, digest), (image_px, image_px))
    if out is None:
        return np.array(image)
    out[...] = np.asarray(image)
    return out


def resized_pixels(source: ImageFile | bytes, size_px: tuple[int, int]) -> np.ndarray:
    """Return an image as uint8 [height, width, 3], the whole of it resized bicubically. Raises as `open_rgb` does."""
    return resize_whole(open_rgb(source), size_px)


def resize_to_square(image: Image.Image, image_px: int) -> np.ndarray:
    """Return an opened RGB image as uint8 [image_px, image_px, 3], resized bicubically to a square."""
    return resize_whole(image, (image_px, image_px))


def squashed(image: Image.Image) -> np.ndarray:
    """Return an RGB image as the square that it would be read as, uint8 [px, px, 3], px its longer side."""
    return resize_to_square(image, max(image.size))


def resize_whole(image: Image.Image, size_px: tuple[int, int]) -> np.ndarray:
    """Return an opened RGB image as uint8 [height, width, 3], the whole of it resized bicubically."""
    return np.array(_resized(image, size_px))  # a copy: torch warns of arrays that can't be written to, as PIL's are


def _resized(image: Image.Image, size_px: tuple[int, int]) -> Image.Image:
    height, width = size_px
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


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

"""Any image mode to RGB: one fixed conversion each, equal to the bit wherever an image comes from.

8 bits a channel    as they are; grey is repeated, palettes are looked up
16 bits, grey       value / 257, rounded half up
16 bits, colour     the upper byte of each channel (Pillow reads no more)
CMYK, YCCK          (255 - C) * (255 - K) / 255 and so on, without a profile; JPEG's are stored inverted, as Adobe does
transparency        alpha, palette alpha or one transparent colour (tRNS), laid on white
EXIF orientation    applied; unknown values and damaged EXIF count as upright
animation, pages    the first one
profiles            not applied: the numbers of the file are taken as sRGB
"""

import warnings
from typing import Any

import numpy as np
from PIL import Image

from lavit_core.image_warnings import ImageWarning

ORIENTATION_TAG, PHOTOMETRIC_TAG = 0x0112, 262

ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image upright, by the value of its EXIF orientation."""

QUARTER_TURNS = frozenset(ORIENTATIONS[value] for value in (5, 6, 7, 8))
"""Those that swap height and width."""

ORIENTATION_HOLDERS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")

GREY_STEPS = {"L;2": 85, "L;4": 17}
"""By Pillow's raw mode: what one step of a PNG's grey is on the scale of 255. Its tRNS is not scaled by Pillow."""

TO_EIGHT_BITS = np.clip(np.arange(1 << 16) / 257.0 + 0.5, 0, 255).astype(np.uint8)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a PIL image as upright RGB, transparency on white; the image itself where nothing is to be done."""
    # How the file stores its samples is no longer known after loading.
    rawmode = _rawmode(image)
    white_is_zero = getattr(image, "tag_v2", {}).get(PHOTOMETRIC_TAG) == 0
    image.load()
    image = _upright(image)
    clear = _clear_colour(image, rawmode)
    if image.mode.startswith("I;16") or image.mode == "I":
        samples = np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
        # PIL clips 16-bit grey to 255 when converting, and leaves TIFF's inverted one inverted.
        grey = Image.fromarray(TO_EIGHT_BITS[65535 - samples if white_is_zero else samples])
        if clear is None:
            return grey.convert("RGB")
        grey.putalpha(Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8)))
        image, clear = grey, None
    if clear is not None and clear != image.info["transparency"]:
        image = image.copy()
        image.info["transparency"] = clear
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or clear is not None:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _rawmode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return height and width of an opened image as `to_rgb` turns it; its pixels need not be loaded."""
    height, width = image.height, image.width
    # Of a TIFF, Pillow tells the upright size before it turns the pixels.
    is_turned = image.format != "TIFF" and _turn(image) in QUARTER_TURNS
    return (width, height) if is_turned else (height, width)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return ORIENTATIONS.get(image.getexif().get(ORIENTATION_TAG, 1))
    # PIL raises many kinds here (SyntaxError, struct.error, ValueError, TypeError): none of them is about the pixels.
    except Exception:  # noqa: BLE001
        warnings.warn("EXIF can't be read; the image is taken as upright", ImageWarning, stacklevel=3)
        return None


def _upright(image: Image.Image) -> Image.Image:
    method = _turn(image)
    if method is None:
        return image
    # Not after a resize: turning swaps its two passes, which round to 8 bits in between.
    image = image.transpose(method)
    for name in ORIENTATION_HOLDERS:
        image.info.pop(name, None)
    return image


def _clear_colour(image: Image.Image, rawmode: str) -> Any:
    """Return the transparent colour on the scale of the loaded pixels, the alpha of a palette, or None."""
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        return clear * GREY_STEPS.get(rawmode, 1)
    if isinstance(clear, tuple) and (";16" in rawmode or max(clear) > 255):
        return tuple(value >> 8 for value in clear)
    return clear

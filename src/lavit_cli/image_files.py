"""Image files that record how they were made: PNG, JPEG and WEBP, by the suffix of their name."""

import io
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.errors import InputError
from lavit_core.files import check_out_file, write_bytes
from lavit_core.images import png_bytes
from PIL import ExifTags, Image

from lavit_cli import __version__

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
}
"""Pillow's names and settings; PNG has text chunks, which Pillow handles in another way."""

MOST_PX = {"JPEG": 65_500, "WEBP": 16_383}
"""The longest side that libjpeg and libwebp write."""


def check_image_file(out: Path) -> None:
    """Check, before any work is done, that an image can be written to `out`. Raises InputError if not."""
    if out.suffix.lower() not in (".png", *FORMATS):
        raise InputError(f"--out {out}: expected a file name that ends in .png, .jpg or .webp")
    check_out_file(out)


def check_image_size(out: Path, size_px: tuple[int, int]) -> None:
    """Check, before any work is done, that the format of `out` holds an image of this height and width.

    Raises InputError if not.
    """
    name, _ = FORMATS.get(out.suffix.lower(), ("PNG", {}))
    if name in MOST_PX and max(size_px) > MOST_PX[name]:
        high, wide = size_px
        raise _too_large(out, name, f"{wide} x {high} pixels, at most {MOST_PX[name]} a side")


def _too_large(out: Path, name: str, why: object) -> InputError:
    return InputError(f"--out {out}: too large for {name} ({why}); take a name that ends in .png")


def unused_file(stem: str, folder: Path = Path()) -> Path:
    """Return a PNG's name in a folder (the working directory) that no file has: STEM.png, STEM-2.png, ..."""
    return next(file for file in _names(folder, stem) if not file.exists())


def drop_repeated(file: Path, stem: str) -> Path | None:
    """Return the file of an earlier image of `stem` with the same pixels and metadata, and remove `file`; else None."""
    content = file.read_bytes()
    for earlier in itertools.takewhile(lambda name: name != file, _names(file.parent, stem)):
        if earlier.is_file() and earlier.read_bytes() == content:
            file.unlink()
            return earlier
    return None


def _names(folder: Path, stem: str) -> Iterator[Path]:
    later = (folder / f"{stem}-{number}.png" for number in itertools.count(2))
    return itertools.chain([folder / f"{stem}.png"], later)


def save_image(path: Path, pixels: np.ndarray, metadata: Mapping[str, Any]) -> None:
    """Write uint8 [h, w, 3], whole or not at all, in the format of the suffix.

    A PNG has `metadata` in its text chunks; JPEG and WEBP as one JSON object in EXIF's ImageDescription. Raises
    InputError for what is too large for the format, pixels or metadata.
    """
    if path.suffix.lower() == ".png":
        text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
        write_bytes(path, png_bytes(pixels, {**text, "Software": f"lavit {__version__}"}, optimize=True))
        return
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = json.dumps(dict(metadata))
    exif[ExifTags.Base.Software] = f"lavit {__version__}"
    name, how = FORMATS[path.suffix.lower()]
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, format=name, exif=exif, **how)
    except (OSError, ValueError) as error:  # the buffer is in memory: what the encoder refuses, not the disk
        raise _too_large(path, name, error) from None
    write_bytes(path, buffer.getvalue())

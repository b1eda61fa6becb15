"""SHA-256 of images as they are encoded: by it an image is known again, whatever its name and time."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from lavit_core.errors import InputError
from lavit_core.files import file_sha256
from lavit_core.images import ImageFile


def image_sha256(image: ImageFile) -> bytes | None:
    """Return the SHA-256 of an image's encoded bytes, None if they can't be read."""
    try:
        if isinstance(image, Path):
            # A pipe would wait for a writer.
            return bytes.fromhex(file_sha256(image)) if image.is_file() else None
        return hashlib.sha256(image.read_bytes()).digest()
    except (InputError, OSError):
        return None


def images_sha256(images: Iterable[tuple[str, bytes]]) -> str:
    """Return the hexadecimal SHA-256 of several images: of each one's key, a zero byte and its SHA-256, in order."""
    digest = hashlib.sha256()
    for key, sha256 in images:
        digest.update(key.encode() + b"\0" + sha256)
    return digest.hexdigest()

"""Where an image lies, as JSON: what a plan on disk and a list of records hold of it."""

import dataclasses
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from lavit_core.images import ImageFile


class UnnamedImage(Exception):
    """An image that is nowhere on disk."""


def place_of(image: ImageFile, key: str, root: Path) -> list[Any]:
    """Return where an image lies: [] at its key below `root`, [path] elsewhere, [[kind, ...]] inside another file.

    Raises UnnamedImage for an image that is nowhere on disk.
    """
    if isinstance(image, Path):
        return [] if str(image) == os.path.join(root, key) else [str(image)]
    kind = type(image)
    if not dataclasses.is_dataclass(kind):
        raise UnnamedImage
    values = ((getattr(image, name), is_path) for name, is_path in fields_of(kind))
    return [[kind.__name__, *(str(value) if is_path else value for value, is_path in values)]]


@lru_cache
def fields_of(kind: Any) -> tuple[tuple[str, bool], ...]:
    """Return the names of an image's fields, and which of them are paths."""
    return tuple((field.name, field.type is Path) for field in dataclasses.fields(kind))

"""Names of files below a folder: links are followed, hidden files are not seen."""

import os
from collections.abc import Iterator
from pathlib import Path

from lavit_core.errors import InputError
from lavit_core.images import SUFFIXES


def find_images(root: Path) -> list[str]:
    """Return the keys of every image file below a folder, hidden ones left out, sorted; linked folders count too.

    Raises InputError for a folder that can't be read.
    """
    return sorted(find_files(root, SUFFIXES))


def find_files(root: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Yield the paths of files below `root`, relative to it, whose lower-case name ends in one of `suffixes`.

    Raises InputError for a folder that can't be read.
    """
    return _files_below(root, "", (), suffixes)


def _files_below(
    folder: Path, inside: str, above: tuple[tuple[int, int], ...], suffixes: tuple[str, ...]
) -> Iterator[str]:
    """Yield the keys below a folder; `above` are the folders that lead to it, to which a link may lead back."""
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    yield from _files_below(folder / entry.name, f"{inside}{entry.name}/", (*above, here), suffixes)
                elif entry.name.lower().endswith(suffixes):
                    yield f"{inside}{entry.name}"
    except OSError as error:
        raise InputError(f"{folder}: can't be read ({error.strerror}), expected a folder of images") from None


def names_in(folder: Path) -> Iterator[str]:
    """Yield the names in a folder in any order, hidden ones left out. Raises InputError if it can't be read."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: can't be read ({error.strerror}), expected a folder of images") from None

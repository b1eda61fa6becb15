"""The file that a name in a list probably means, when no file has that name."""

import os
import posixpath
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")


def near_miss(root: Path, name: str) -> tuple[str, str] | None:
    """Return (name below `root`, how it differs) of an existing file that is spelled almost like `name`, or None."""
    spellings = list(_spellings(name))
    for spelling, how in spellings:
        if spelling != name and _exists(root, spelling):
            return spelling, how
    for spelling, how in spellings:
        for moved in _moved(root, spelling):
            if _exists(root, moved):
                return moved, "another folder" if spelling == name else f"another folder, and {how}"
    for spelling, _ in spellings:
        if found := _other_case(root, spelling):
            return found, "capital and small letters differ"
    return None


def _spellings(name: str) -> Iterator[tuple[str, str]]:
    """Yield the name itself and its other spellings: each alone, then all together."""
    yield name, "the same"
    slashed = name.replace("\\", "/")
    yield slashed, "/ and not \\"
    yield unquote(name), "written without % codes"
    yield _stripped(name), "without blanks around it"
    together = _stripped(unquote(slashed))
    for form in FORMS:
        yield unicodedata.normalize(form, name), f"its letters are spelled in Unicode's {form}"
    yield together, "plainly spelled"
    for form in FORMS:
        yield unicodedata.normalize(form, together), f"plainly spelled, in Unicode's {form}"


def _stripped(name: str) -> str:
    """Return a path without blanks at its end, at its start, and before its suffix."""
    stem, suffix = posixpath.splitext(name.strip())
    return stem.rstrip() + suffix


def _moved(root: Path, name: str) -> Iterator[str]:
    """Yield the name one folder down, one folder up, and by itself."""
    if name.startswith("/"):
        name = name.lstrip("/")
    parts = name.split("/")
    yield f"images/{name}"
    for count in range(1, len(parts)):
        yield "/".join(parts[count:])
    for folder in _folders(root):
        yield f"{folder}/{name}"
        yield f"{folder}/{parts[-1]}"
    yield f"../{name}"
    yield f"../{parts[-1]}"


def _folders(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


def _other_case(root: Path, name: str) -> str | None:
    """Return the path below `root` that differs from `name` in case alone."""
    found = ""
    for part in name.split("/"):
        try:
            names = sorted(os.listdir(root / found))
        except OSError:
            return None
        same = [one for one in names if one.casefold() == part.casefold()]
        if not same:
            return None
        found = posixpath.join(found, same[0])
    return found


def _exists(root: Path, name: str) -> bool:
    try:
        return (root / name).is_file()
    except (OSError, ValueError):
        return False

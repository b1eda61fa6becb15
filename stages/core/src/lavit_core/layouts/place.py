"""The folder or file that the user named, looked at once for all layouts."""

import functools
import itertools
import json
import os
import posixpath
import re
from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.folders import names_in
from lavit_core.images import SUFFIXES
from lavit_core.json_lines import RepeatedKeyError, parse_json
from lavit_core.line_store import SortedRows
from lavit_core.records import Problem, Source

ANNOTATION_FOLDERS = ("annotations", "questions")
"""Folders below DATA in which JSON files are looked for too, as COCO and VQA are published."""


class Place:
    """A source with the names that lie in its folder; `file` is None unless the user named one, `several` is empty
    unless a range of files was named."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.file = source.path if os.path.isfile(source.path) else None
        self.several = expand_range(source.path)
        self.root = source.path if self.file is None and not self.several else source.path.parent

    @functools.cached_property
    def names(self) -> list[str]:
        """Names in the folder, sorted; hidden ones left out, and images with the files that share their names."""
        by_stem = SortedRows()
        for name in names_in(self.root):
            if not name.lower().endswith(SUFFIXES):
                by_stem.add(posixpath.splitext(name)[0], name)
        if not len(by_stem):
            return []
        for name in names_in(self.root):
            if name.lower().endswith(SUFFIXES):
                by_stem.add(posixpath.splitext(name)[0], None)
        names: list[str] = []
        for _, rows in itertools.groupby(by_stem, key=itemgetter(0)):
            found = [name for _, name in rows]
            names += [] if None in found else found
        return sorted(names)

    def files(self, *suffixes: str) -> list[Path]:
        """Return the file that was named, or the folder's files, whose lower-case names end in one of `suffixes`.

        Files that lie beside an image of the same name belong to that image and do not count.
        """
        if self.file is not None:
            return [self.file] if self.file.name.lower().endswith(suffixes) else []
        files = [self.root / name for name in self.names if name.lower().endswith(suffixes)]
        # Not a pipe, whose reader would wait for a writer.
        return [file for file in files if file.is_file()]

    @functools.cached_property
    def json_files(self) -> dict[Path, Any]:
        """The values of the JSON files of the folder and of annotations/ below it; those that are not JSON left out.

        Raises InputError for a file that was named and is not JSON.
        """
        files = self.files(".json")
        if self.file is None:
            files += [
                file
                for name in ANNOTATION_FOLDERS
                for file in sorted((self.root / name).glob("*.json"))
                if file.is_file()
            ]
        values = {}
        for file in files:
            try:
                values[file] = parse_json(file.read_text(encoding="utf-8-sig"))
            except RepeatedKeyError as error:
                raise InputError(f"{file}: {error}; one of the values would be lost") from None
            except (OSError, ValueError, RecursionError) as error:
                if self.file is not None:
                    raise InputError(f"{file}: not valid JSON ({error})") from None
        return values


def expand_range(path: Path) -> list[Path]:
    """Return the files of a range, as `data/{00000..00003}.tar`; [] for any other name, and where the path exists."""
    found = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", path.name)
    if found is None or os.path.exists(path):
        return []
    before, first, last, after = found.groups()
    numbers = range(int(first), int(last) + 1)
    return [path.with_name(f"{before}{number:0{len(first)}d}{after}") for number in numbers]


def one_of(files: Iterable[Path], what: str, root: Path) -> Path:
    """Return the only file. Raises InputError naming all of them if there are several."""
    found = list(files)
    if len(found) > 1:
        names = ", ".join(str(file.relative_to(root)) for file in found)
        raise InputError(f"{root}: {len(found)} {what} ({names}); give one of them, say {found[0]}")
    return found[0]


def wrong_key(key: Any) -> str | None:
    """Return what is wrong with the name of an image in a list, or None."""
    if not isinstance(key, str) or not key:
        return f"is {short(key)}, expected a string"
    if "\0" in key or key.startswith("/") or (".." in key and ".." in key.split("/")):
        return f"{short(key)} leads out of the data folder"
    return None


def key_of(name: Any, root: Path, prefix: str = "") -> tuple[str, str | None]:
    """Return (key, what is wrong or None) of an image's name in a list that is not ours: `./` and the folder's own
    absolute path are taken away, `prefix` is put before."""
    if isinstance(name, str) and (name.startswith("data:") or "://" in name):
        return "", f"is the address {short(name)}, expected a file's name below the data folder; nothing is fetched"
    if isinstance(name, str) and os.path.isabs(name):
        name = os.path.relpath(name, root.absolute()) if Path(name).is_relative_to(root.absolute()) else name
        prefix = ""
    if wrong := wrong_key(name):
        return "", wrong
    return posixpath.normpath(prefix + name), None


def find_prefix(root: Path, names: Iterable[Any], *, depth: int = 2) -> str:
    """Return the folder below `root`, as `images/`, in which the first of `names` lie; "" if they lie in none."""
    # os.path.isfile: Path.is_file raises for a name that is longer than names may be.
    probes = [name for name in itertools.islice(names, 20) if wrong_key(name) is None]
    best, most = "", sum(os.path.isfile(root / name) for name in probes)
    level = [""]
    for _ in range(depth):
        if most == len(probes):
            break
        level = [f"{above}{name}/" for above in level for name in _subfolders(root / above)]
        for prefix in level:
            found = sum(os.path.isfile(root / prefix / name) for name in probes)
            if found > most:
                best, most = prefix, found
    return best


def locate(place: Place, names: Iterable[Any]) -> tuple[Path, str]:
    """Return (data folder, prefix) under which the images of a list lie: beside the list, or one folder up if a list
    was named that lies in a folder of its own, say annotations/."""
    names = list(itertools.islice(names, 20))
    prefix = find_prefix(place.root, names)
    if place.file is None or any(os.path.isfile(place.root / prefix / str(name)) for name in names):
        return place.root, prefix
    above = place.root.absolute().parent
    prefix = find_prefix(above, names)
    return (above, prefix) if any(os.path.isfile(above / prefix / str(name)) for name in names) else (place.root, "")


def say_prefix(prefix: str) -> list[str]:
    """Return the note that images were found in another folder than their names say."""
    return [f"images are in {prefix}: their names in the list leave it out"] if prefix else []


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def bad_line(file: Path, line: int | str, message: str) -> Problem:
    """Return the problem of one line (or item) of a file."""
    return Problem("line", f"{file}:{line}: {message}")


def short(value: Any) -> str:
    """Return a JSON value in at most 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."

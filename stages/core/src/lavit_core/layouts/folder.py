"""A folder of images, bare or with a text file beside each image.

a.jpg a.txt           or a.caption, or a.jpg.txt: each line that is not blank is a caption
a.jpg a.json          {"caption": "..."}, where no text file is there
"""

import json
import posixpath
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.folders import find_files
from lavit_core.images import SUFFIXES
from lavit_core.layouts.columns import guess_columns
from lavit_core.layouts.own import CAPTIONS_FILE
from lavit_core.layouts.place import Place
from lavit_core.layouts.table import caption_texts, read_named_columns
from lavit_core.records import Contents, Problem

TEXTS = (".txt", ".caption")
LISTS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".xml", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")
"""Files that may hold captions: they are named when a folder is read without them."""


def read_folder(place: Place) -> Contents | None:
    """Return every image below the folder, with the captions of the text files beside them."""
    if place.file is not None:
        return None
    names = set(find_files(place.root, (*SUFFIXES, *TEXTS, ".json")))
    images = sorted(name for name in names if name.lower().endswith(SUFFIXES))
    if not images:
        return None
    contents = Contents(layout="images", root=place.root, captions=dict.fromkeys(images, ()))
    if place.source.caption_column != "none":
        _read_sidecars(contents, names, place.source.caption_column)
    if contents.layout == "images":
        if (named := read_named_columns(place)) is not None:
            return named
        others = [name for name in place.names if name.lower().endswith(LISTS)]
        if others:
            shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if others[3:] else "")
            contents.notes.append(
                f"images without captions: {shown} not read; `lavit data inspect {place.root / others[0]}` says why"
            )
    return contents


def _read_sidecars(contents: Contents, names: set[str], column: str | None) -> None:
    texts_by_stem = {_low_suffix(name): name for name in names if name.lower().endswith(TEXTS)}
    used: set[str] = set()
    beside: Counter[str] = Counter()
    without_text = []
    for key in contents.captions:
        stem = posixpath.splitext(key)[0]
        beside_it = [name for suffix in TEXTS for name in (stem + suffix, key + suffix)]
        texts = [texts_by_stem[name] for name in beside_it if name in texts_by_stem]
        used.update(texts)
        # A column that was named is meant, also where text files lie beside the images.
        if column is not None and stem + ".json" in names:
            contents.heeded.add("caption_column")
            texts = []
        if texts:
            contents.captions[key] = tuple(line for name in texts for line in _lines(contents, name))
            beside.update({posixpath.splitext(name)[1].lower() for name in texts})
        elif stem + ".json" in names:
            contents.captions[key] = _json_file(contents, stem + ".json", column)
            beside[".json"] += bool(contents.captions[key])
        if not contents.captions[key]:
            without_text.append(key)
    left = sorted(name for name in texts_by_stem.values() if name not in used)
    _name_orphans(contents, left, without_text)
    if any(beside.values()):
        contents.layout = "sidecars"
        have = len(contents.captions) - len(without_text)
        contents.notes.append(
            f"captions are the lines of the {', '.join(sorted(beside))} files beside the images; "
            f"{have} of {len(contents.captions)} images have one"
        )


def _low_suffix(name: str) -> str:
    stem, suffix = posixpath.splitext(name)
    return stem + suffix.lower()


def _name_orphans(contents: Contents, texts: list[str], images: list[str]) -> None:
    """Say which text files belong to no image; those that almost have an image's name are problems."""
    if not texts:
        return
    plain = {_plain(posixpath.splitext(key)[0]): key for key in images}
    alone = []
    for name in texts:
        if near := plain.get(_plain(posixpath.splitext(name)[0])):
            message = f"{contents.root / name}: no image has this name, but {near} almost; rename one of them"
            contents.problems.append(Problem("name", message))
        else:
            alone.append(name)
    if alone:
        contents.notes.append(f"{len(alone)} text files belong to no image and are not read (first: {alone[0]})")


def _plain(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold().replace(" ", "").replace("%20", "")


def _lines(contents: Contents, name: str) -> list[str]:
    file = contents.root / name
    try:
        text = _text(file)
    except (OSError, ValueError) as error:
        contents.problems.append(Problem("line", f"{file}: not readable as UTF-8 text ({error})"))
        return []
    return caption_lines(text)


def _text(file: Path) -> str:
    """Return the text of a file. Raises OSError, for a pipe too: its reader would wait for a writer."""
    if not file.is_file():
        raise OSError("not a regular file")
    return file.read_text(encoding="utf-8-sig")


def caption_lines(text: str) -> list[str]:
    """Return the captions in a text file: its lines that are not blank, or one empty caption."""
    return [line.strip() for line in text.split("\n") if line.strip()] or [""]


def json_captions(value: Any, column: str | None) -> list[str]:
    """Return the captions in the JSON object beside an image, [] if it has none."""
    names = guess_columns(list(value), image=None, caption=column) if isinstance(value, dict) else None
    return [] if names is None or names.caption is None else caption_texts(value[names.caption]) or []


def _json_file(contents: Contents, name: str, column: str | None) -> tuple[str, ...]:
    file = contents.root / name
    try:
        value = json.loads(_text(file))
    except (OSError, ValueError, RecursionError) as error:
        contents.problems.append(Problem("line", f"{file}: not valid JSON ({error})"))
        return ()
    return tuple(json_captions(value, column))


def refuse_splits(place: Place) -> None:
    """Raise InputError naming the parts if captions lie one folder down, and not here."""
    if place.file is not None:
        return
    lists: tuple[str, ...] = (CAPTIONS_FILE, "metadata.jsonl", "metadata.csv")
    splits = sorted({file.parent.name for name in lists for file in place.root.glob(f"*/{name}")})
    if splits:
        raise InputError(f"{place.root}: holds {', '.join(splits)}; give one of them, say {place.root / splits[0]}")


def nothing_here(path: Path) -> InputError:
    """Return the error that nothing that is known is here."""
    kinds = ", ".join(SUFFIXES)
    if (path / "run.json").is_file():
        return InputError(f"{path}: a run or token directory (run.json), expected a folder of images")
    lists = sorted(path.glob("*.yaml")) + sorted(path.glob("*.yml")) + sorted(path.glob("*sources.json"))
    if lists:
        return InputError(f"{path}: no image ({kinds}) here; give {lists[0]} if it lists several data sets")
    return InputError(f"{path}: no image ({kinds}) and no {CAPTIONS_FILE} here, nor any other layout of docs/data.md")

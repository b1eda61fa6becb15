"""A folder of images, bare or with a text file beside each image.

a.jpg a.txt           or a.caption, or a.jpg.txt: each line that is not blank is a caption
a.jpg a.json          {"caption": "..."}, where no text file is there
"""

import heapq
import itertools
import json
import posixpath
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.folders import find_files, names_in
from lavit_core.images import SUFFIXES
from lavit_core.layouts.columns import guess_columns
from lavit_core.layouts.own import CAPTIONS_FILE
from lavit_core.layouts.place import Place
from lavit_core.layouts.table import caption_texts, read_named_columns
from lavit_core.line_store import SortedRows
from lavit_core.records import Contents, ListedImage, Problem

TEXTS = (".txt", ".caption")
BESIDE = (*TEXTS, ".json")
LISTS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".xml", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")
"""Files that may hold captions: they are named when a folder is read without them."""


def read_folder(place: Place) -> Contents | None:
    """Return every image below the folder, with the captions of the text files beside them."""
    if place.file is not None:
        return None
    images, beside = SortedRows(), SortedRows()
    for name in find_files(place.root, (*SUFFIXES, *BESIDE)):
        if name.lower().endswith(SUFFIXES):
            images.add(name)
        else:
            beside.add(_shared_name(name), name)
    if not len(images):
        return None
    contents = Contents(layout="images", root=place.root)
    if place.source.caption_column != "none" and len(beside):
        images = _with_sidecars(contents, images, beside, place.source.caption_column)
    contents.listed = (ListedImage(key, captions[0] if captions else ()) for key, *captions in images)
    if contents.layout == "images":
        if (named := read_named_columns(place)) is not None:
            return named
        others = heapq.nsmallest(3, _lists(place.root))
        if others:
            more = sum(1 for _ in _lists(place.root)) - len(others)
            shown = ", ".join(others) + (f" and {more} more" if more else "")
            contents.notes.append(
                f"images without captions: {shown} not read; `lavit data inspect {place.root / others[0]}` says why"
            )
    return contents


def _lists(folder: Path) -> Iterator[str]:
    return (name for name in names_in(folder) if name.lower().endswith(LISTS))


def _shared_name(name: str) -> str:
    """Return what the names of an image and of all files that may belong to it have in common."""
    while name.lower().endswith((*SUFFIXES, *BESIDE)):
        name = posixpath.splitext(name)[0]
    return name


def _with_sidecars(contents: Contents, images: SortedRows, beside: SortedRows, column: str | None) -> SortedRows:
    """Return the images with the captions of the files beside them; say what was read and which belong to none."""
    for (key,) in images:
        beside.add(_shared_name(key), key)
    found, alone, kinds, have = SortedRows(), list[str](), set[str](), 0
    for _, rows in itertools.groupby(beside, key=itemgetter(0)):
        names = sorted(name for _, name in rows)
        texts_by_stem = {low_suffix(name): name for name in names if name.lower().endswith(TEXTS)}
        used = set[str]()
        for key in names:
            if key.lower().endswith(SUFFIXES):
                captions, read = _captions_beside(contents, key, names, texts_by_stem, column, used)
                found.add(key, captions)
                have += bool(captions)
                kinds.update(read)
        alone += [name for name in texts_by_stem.values() if name not in used]
    if alone:
        _name_orphans(contents, sorted(alone), found)
    if kinds:
        contents.layout = "sidecars"
        contents.notes.append(
            f"captions are the lines of the {', '.join(sorted(kinds))} files beside the images; "
            f"{have} of {len(found)} images have one"
        )
    return found


def _captions_beside(
    contents: Contents,
    key: str,
    names: Sequence[str],
    texts_by_stem: Mapping[str, str],
    column: str | None,
    used: set[str],
) -> tuple[list[str], set[str]]:
    """Return the captions of an image and the suffixes of the files that they are in; add its texts to `used`."""
    stem = posixpath.splitext(key)[0]
    in_json = next((name for name in names if low_suffix(name) == stem + ".json"), None)
    beside_it = [name for suffix in TEXTS for name in (stem + suffix, key + suffix)]
    texts = [texts_by_stem[name] for name in beside_it if name in texts_by_stem]
    used.update(texts)
    # A column that was named is meant, also where text files lie beside the images.
    if column is not None and in_json is not None:
        contents.heeded.add("caption_column")
        texts = []
    if texts:
        lines = [line for name in texts for line in _lines(contents, name)]
        return lines, {posixpath.splitext(name)[1].lower() for name in texts}
    captions = _json_file(contents, in_json, column) if in_json is not None else []
    return captions, {".json"} if captions else set()


def low_suffix(name: str) -> str:
    """Return a name with its suffix in small letters."""
    stem, suffix = posixpath.splitext(name)
    return stem + suffix.lower()


def _name_orphans(contents: Contents, texts: list[str], images: SortedRows) -> None:
    """Say which text files belong to no image; those that almost have an image's name are problems."""
    wanted = {_plain(posixpath.splitext(name)[0]) for name in texts}
    stems = ((_plain(posixpath.splitext(key)[0]), key) for key, captions in images if not captions)
    near = {stem: key for stem, key in stems if stem in wanted}
    alone = []
    for name in texts:
        if key := near.get(_plain(posixpath.splitext(name)[0])):
            message = f"{contents.root / name}: no image has this name, but {key} almost; rename one of them"
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


def _json_file(contents: Contents, name: str, column: str | None) -> list[str]:
    file = contents.root / name
    try:
        value = json.loads(_text(file))
    except (OSError, ValueError, RecursionError) as error:
        contents.problems.append(Problem("line", f"{file}: not valid JSON ({error})"))
        return []
    return json_captions(value, column)


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

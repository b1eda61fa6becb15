"""Tars of webdataset and img2dataset, read where they lie: an image is a range of bytes of its tar.

00000.tar              000000000.jpg, 000000000.txt (each line a caption) or 000000000.json ({"caption": "a dog"})
00000_stats.json       img2dataset's counts; 00000.parquet beside it is not needed
"""

import dataclasses
import itertools
import json
import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.folders import find_files
from lavit_core.images import SUFFIXES
from lavit_core.layouts.folder import TEXTS, caption_lines, json_captions, low_suffix
from lavit_core.layouts.place import Place, key_of
from lavit_core.line_store import SortedRows
from lavit_core.records import Contents, ListedImage, Problem

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


@dataclasses.dataclass(frozen=True, slots=True)
class TarImage:
    """An image inside a tar that is not compressed."""

    file: Path
    name: str
    offset: int
    """Where its bytes begin in the tar."""
    size: int

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def read_bytes(self) -> bytes:
        """Return the encoded image. Raises OSError."""
        with open(self.file, "rb") as handle:
            handle.seek(self.offset)
            found = handle.read(self.size)
        if len(found) != self.size:
            raise OSError(f"{len(found)} of {self.size} bytes, the tar is cut short")
        return found


def read_tars(place: Place) -> Contents | None:
    """Return the images of the tars of the folder, of the range, or of the tar that was named; None without tars, and
    in a folder that has image files too."""
    tars = place.several or place.files(".tar")
    named = place.file is not None or bool(place.several)
    packed = [] if tars and named else place.files(*COMPRESSED)
    if not tars and not packed:
        return None
    if not named and any(True for _ in find_files(place.root, SUFFIXES)):
        return None
    if packed and not tars:
        raise InputError(f"{packed[0]}: compressed, so images can't be read in place; unpack it once into a .tar")
    contents = Contents(layout="tars", root=place.root, files=tars, named_by="member")
    if packed:
        contents.notes.append(f"compressed, so not read: {packed[0].name} (of {len(packed)}); unpack it into a .tar")
    rows, from_stats, have = SortedRows(), Contents(layout="tars", root=place.root, files=tars), 0
    spans: list[tuple[str, str]] = []
    for number, file in enumerate(tars):
        found = _read_tar(contents, file, place.source.caption_column)
        _compare_with_stats(from_stats, file, len(found))
        for name, (image, captions) in found.items():
            rows.add(name, number, image.offset, image.size, captions)
            have += bool(captions)
        spans += [(min(found), max(found))] if found else []
        del found  # not beside that of the next tar
    # Most tars hold names of their own, one after another: no need to look at each name then.
    beside = all(one[1] < other[0] for one, other in itertools.pairwise(sorted(spans)))
    apart = not beside and any(one[0] == other[0] for one, other in itertools.pairwise(rows))
    if apart:
        if twice := [stem for stem, count in Counter(file.stem for file in tars).items() if count > 1]:
            raise InputError(f"{place.root}: 2 tars called {twice[0]}, with images of equal names; rename one of them")
        contents.notes.append("images of several tars have equal names: keys begin with the tar's name")
    contents.notes += from_stats.notes
    contents.problems += from_stats.problems
    if not len(rows) and not contents.problems:
        raise InputError(f"{tars[0]}: no image ({', '.join(SUFFIXES)}) in it, nor in the {len(tars) - 1} other tars")
    contents.notes.append(f"{have} of {len(rows)} images in {len(tars)} tars have a caption")
    contents.listed = _listed(tars, rows, apart=apart)
    return contents


def _listed(tars: list[Path], rows: SortedRows, *, apart: bool) -> Iterator[ListedImage]:
    """Yield the images sorted by key: by name, or by the tar's name and theirs where names are in several tars."""
    keyed: Iterable[list[Any]] = ([name, name, *image] for name, *image in rows)
    if apart:
        in_tars = SortedRows()
        for name, number, *image in rows:
            in_tars.add(f"{tars[number].stem}/{name}", name, number, *image)
        keyed = in_tars
    files = [str(file) for file in tars]
    for key, name, number, offset, size, captions in keyed:
        yield ListedImage(key, captions, [[TarImage.__name__, files[number], name, offset, size]], size)


def _read_tar(contents: Contents, file: Path, column: str | None) -> dict[str, tuple[TarImage, tuple[str, ...]]]:
    """Return image and captions by the member's name; collect what is wrong."""
    images: dict[str, TarImage] = {}
    texts: dict[str, TarImage] = {}
    links = 0
    for member in _members(contents, file):
        name = posixpath.normpath(member.name)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/") if part != "..")
        kind = posixpath.splitext(name)[1].lower()
        if hidden or kind not in (*SUFFIXES, *TEXTS, ".json"):
            continue
        if not member.isreg():
            links += 1
            continue
        if member.issparse():
            message = f"{file}: member {name} is sparse, expected all its bytes; write the tar without --sparse"
            contents.problems.append(Problem("line", message))
            continue
        key, wrong = key_of(name, contents.root)
        where, name = (images, key) if kind in SUFFIXES else (texts, low_suffix(key))
        if wrong or member.name.startswith("/"):
            contents.problems.append(Problem("line", f"{file}: member {wrong or member.name}"))
        elif name in where:
            contents.problems.append(Problem("duplicate", f"{file}: {key} is there twice"))
        else:
            where[name] = TarImage(file, key, member.offset_data, member.size)
    if links:
        contents.notes.append(f"{file.name}: {links} links or folders named like images are not read")
    if column == "none":
        return {name: (image, ()) for name, image in images.items()}
    by_prefix, texts_by_prefix = Counter(map(_prefix, images)), _by_prefix(texts)
    found = {}
    with open(file, "rb") as handle:
        for name, image in images.items():
            own = _own_texts(name, texts, column)
            if not own and (near := texts_by_prefix.get(_prefix(name))):
                if by_prefix[_prefix(name)] > 1 or len({posixpath.splitext(text)[0] for text in near}) > 1:
                    message = f"{name} and {near[0]} may belong together or not; name each text like its image"
                    contents.problems.append(Problem("name", f"{file}: {message}"))
                else:
                    own = _own_texts(near[0], texts, column)
            if column is not None and any(text.endswith(".json") for text in own):
                contents.heeded.add("caption_column")
            found[name] = (image, _captions(contents, handle, [texts[text] for text in own], column))
    return found


def _members(contents: Contents, file: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar; a tar that does not end as tars do is a problem."""
    last, cut = "its start", f"{file}: cut short or damaged after"
    try:
        num_bytes = file.stat().st_size
        with tarfile.open(file, "r:") as tar:
            while (member := tar.next()) is not None:
                if not 0 <= member.size <= num_bytes - member.offset_data and member.isreg() and not member.issparse():
                    raise tarfile.ReadError(f"{member.name} of {member.size} bytes leads out of the file")
                last = member.name
                yield member
                # They would fill the memory.
                tar.members = []  # type: ignore[attr-defined]
            end = tar.offset  # type: ignore[attr-defined]
        with open(file, "rb") as handle:
            handle.seek(end)
            block = handle.read(tarfile.BLOCKSIZE)
        if block != bytes(tarfile.BLOCKSIZE):
            contents.problems.append(Problem("line", f"{cut} {last}, expected the block of zeros that ends a tar"))
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        # tarfile lets through what the numbers in a damaged header lead to.
        contents.problems.append(Problem("line", f"{cut} {last} ({str(error) or type(error).__name__})"))


def _prefix(name: str) -> str:
    """Return webdataset's key of a member: everything up to the first dot of its last part."""
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.split(".")[0])


def _by_prefix(names: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_prefix(name), []).append(name)
    return found


def _own_texts(name: str, texts: dict[str, TarImage], column: str | None) -> list[str]:
    """Return the text files of a member, those of captions before the JSON file unless its column was named."""
    stem = posixpath.splitext(name)[0]
    lines = [stem + suffix for suffix in TEXTS if stem + suffix in texts]
    in_json = [text for text in (stem + ".json",) if text in texts]
    return in_json or lines if column is not None else lines or in_json


def _captions(contents: Contents, handle: Any, texts: list[TarImage], column: str | None) -> tuple[str, ...]:
    captions: list[str] = []
    for text in texts:
        handle.seek(text.offset)
        try:
            content = handle.read(text.size).decode("utf-8-sig")
            captions += (
                json_captions(json.loads(content), column)
                if text.name.lower().endswith(".json")
                else caption_lines(content)
            )
        except (ValueError, RecursionError) as error:
            contents.problems.append(Problem("line", f"{text}: not readable ({error})"))
    return tuple(captions)


def _compare_with_stats(contents: Contents, file: Path, images: int) -> None:
    """Compare a tar with img2dataset's counts beside it; without them, its download was not finished."""
    stats = file.with_name(f"{file.stem}_stats.json")
    if not stats.is_file():
        if any(one.with_name(f"{one.stem}_stats.json").is_file() for one in contents.files):
            contents.notes.append(f"{file.name} has no {stats.name} beside it: its download was not finished")
        return
    try:
        counts = json.loads(stats.read_text(encoding="utf-8-sig"))
        total, good = int(counts["count"]), int(counts["successes"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        contents.problems.append(Problem("line", f"{stats}: count and successes can't be read ({error!r})"))
        return
    if good != images:
        contents.problems.append(Problem("missing", f"{file}: {images} images, but {stats.name} counts {good}"))
    elif good < total:
        contents.notes.append(f"{file.name}: {good} of {total} images were downloaded")

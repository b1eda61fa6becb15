"""Data sets of the user: images with captions and questions, in the layouts of `lavit_core.layouts` (docs/data.md)."""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from lavit_core.errors import InputError, UsageError
from lavit_core.folders import find_images
from lavit_core.layouts.detect import read_contents
from lavit_core.layouts.hub import check_hub, is_hub
from lavit_core.layouts.own import CAPTIONS_FILE, QUESTIONS_FILE, earlier_turns
from lavit_core.layouts.place import expand_range
from lavit_core.line_store import SortedRows
from lavit_core.listing import list_images
from lavit_core.marks import images_of, turns_about, without_marks
from lavit_core.progress import note
from lavit_core.records import IMAGE_MARK, Problem, Question, Record, Source
from lavit_core.source_list import NamedSource, is_source_list, read_source_list
from lavit_core.stored_records import JoinedRecords

__all__ = [
    "CAPTIONS_FILE",
    "IMAGE_MARK",
    "QUESTIONS_FILE",
    "Data",
    "Problem",
    "Question",
    "Record",
    "Source",
    "check_data",
    "check_out_outside",
    "digest_before",
    "earlier_turns",
    "find_images",
    "first_problem",
    "images_of",
    "open_data",
    "scan_data",
    "source_of",
    "turns_about",
    "without_marks",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """An opened data set: records sorted by key, questions in file order."""

    root: Path
    """Folder that keys are relative to."""
    layout: str
    """`lavit` (ours), `images` (no captions), or another tool's: docs/data.md lists them."""
    files: tuple[Path, ...]
    """Files with captions, questions or images that were read."""
    records: Sequence[Record]
    questions: tuple[Question, ...]
    digest: str
    """SHA-256 of captions, questions and every image's key and size in bytes; equal in all layouts but ours, whose
    files are digested as they are, and bare folders."""
    num_empty_captions: int = 0
    """Captions of nothing but spaces, which are left out of the records."""
    notes: tuple[str, ...] = ()
    """What was guessed or left out."""
    roots: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    """Of a list of sources: the folder of each one, by what its keys begin with (without the slash)."""


def source_of(data: Path | Source) -> Source:
    """Return what names a data set: a path, and how to read it."""
    return data if isinstance(data, Source) else Source(data)


def open_data(data: Path | Source) -> Data:
    """Open a data set; say once on stderr what was guessed or left out.

    Raises InputError with the first thing wrong, naming file, line and what was expected.
    """
    opened, problems = scan_data(data)
    if problems:
        raise first_problem(data, problems)
    if not opened.records and not opened.questions:
        raise InputError(f"{source_of(data).path}: no image in it, expected at least one (layout: {opened.layout})")
    for line in opened.notes:
        _say_once(f"{source_of(data).path}: {line}")
    return opened


def first_problem(data: Path | Source, problems: Sequence[Problem]) -> InputError:
    """Return the error that names the first of the problems of a data set, and how many more there are."""
    more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
    return InputError(f"{problems[0].message}{more}; `lavit data inspect {source_of(data).words}` lists everything")


_say_once = lru_cache(note)


def check_data(data: Path | Source) -> None:
    """Raise InputError if nothing is at the path of a data set; nothing in it is read."""
    path = source_of(data).path
    if is_hub(path):
        check_hub(source_of(data))
    elif is_source_list(path) and path.is_file():
        for one in read_source_list(source_of(data)):
            check_data(one.source)
    elif several := expand_range(path):
        missing = [file for file in several if not file.is_file()]
        if missing:
            raise InputError(f"{missing[0]}: no such file, but {path.name} names it ({len(missing)} are missing)")
    elif not os.path.exists(path):
        raise InputError(f"{path}: found nothing, expected a folder of images or a list of them (docs/data.md)")


def digest_before(data: Path | Source, sizes: Mapping[str, int]) -> str:
    """Return the digest that a data set had when the images named in `sizes` had these sizes in bytes."""
    return scan_data(data, sizes=sizes)[0].digest


def scan_data(data: Path | Source, *, sizes: Mapping[str, int] | None = None) -> tuple[Data, list[Problem]]:
    """Open a data set and collect every problem instead of stopping; `sizes` stand for those of the files they name.

    Raises InputError if `data` is not a data set.
    """
    check_data(data)
    if is_source_list(source_of(data).path):
        return _scan_list(source_of(data), sizes or {})
    contents = read_contents(source_of(data))
    listing = list_images(contents, sizes or {}, captions=source_of(data).caption_column != "none")
    opened = Data(
        root=contents.root,
        layout=contents.layout,
        files=tuple(contents.files),
        records=listing.records,
        questions=tuple(contents.questions),
        digest=listing.digest,
        num_empty_captions=listing.num_empty_captions,
        notes=tuple(contents.notes),
    )
    return opened, [*contents.problems, *listing.problems]


def _scan_list(listed: Source, sizes: Mapping[str, int]) -> tuple[Data, list[Problem]]:
    """Open all sources of a list as one data set: keys and question ids are `name/key`."""
    named = read_source_list(listed)
    sources: list[tuple[str, int, Sequence[Record]]] = []
    questions: list[Question] = []
    problems: list[Problem] = []
    digest = hashlib.sha256()
    scanned = []
    for one in named:
        prefix = f"{one.name}/"
        own = {key.removeprefix(prefix): size for key, size in sizes.items() if key.startswith(prefix)}
        data, found = scan_data(one.source, sizes=own)
        problems += found
        sources.append((one.name, one.weight, data.records))
        for question in data.questions:
            number = f"{one.name}/{question.question_id}"
            key = f"{one.name}/{question.key}" if question.key else ""
            images = tuple(f"{one.name}/{name}" for name in question.images)
            questions.append(dataclasses.replace(question, question_id=number, key=key, images=images))
        digest.update(json.dumps([one.name, one.weight, data.digest]).encode() + b"\n")
        scanned.append((one, dataclasses.replace(data, records=(), questions=())))
    notes = [f"{one.name}: {note}" for one, data in scanned for note in data.notes]
    roots = [data.root.resolve() for _, data in scanned]
    nested = any(one.is_relative_to(other) for one, other in itertools.permutations(roots, 2))
    records = JoinedRecords(sources)
    twice = _count_twice(records) if nested else 0
    if twice:
        notes.append(f"{twice} images stand in more than one source, and are read for each")
    opened = Data(
        root=listed.path.parent,
        layout="sources",
        files=(listed.path, *(file for _, data in scanned for file in data.files)),
        records=records,
        questions=tuple(questions),
        digest=digest.hexdigest(),
        num_empty_captions=sum(data.num_empty_captions for _, data in scanned),
        notes=(*(_say_source(one, data) for one, data in scanned), *notes),
        roots={one.name: data.root for one, data in scanned},
    )
    return opened, problems


def _count_twice(records: Sequence[Record]) -> int:
    """Return how many records name an image that another one before them names."""
    files = SortedRows()
    for record in records:
        files.add(str(record.image))
    return sum(one == other for one, other in itertools.pairwise(files))


def _say_source(one: NamedSource, data: Data) -> str:
    weight = f", weight {one.weight} (trainings alone)" if one.weight != 1 else ""
    return f"{one.name}: layout {data.layout}{weight}"


def check_out_outside(out: Path, data: Path | Source) -> None:
    """Raise UsageError if `out` is inside the data folder, whose images and digest would change while they are read."""
    path = source_of(data).path
    listed = is_source_list(path) and path.is_file()
    for folder in [one.source.path for one in read_source_list(source_of(data))] if listed else [path]:
        if out.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"--out {out}: inside the data folder {folder}, expected a folder outside it")

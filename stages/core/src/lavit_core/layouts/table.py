"""Tables with a line for each image or caption: CSV, TSV, JSON lines, JSON, and the metadata files of imagefolder.

captions.csv       image,caption            also with tabs, semicolons or bars; also named captions.txt
data.jsonl         {"image": "images/1.jpg", "text": "a dog"}
data.json          [{"image": "images/1.jpg", "text": "a dog"}]
metadata.csv       file_name,text           names are relative to the folder of the file
"""

import csv
import dataclasses
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from lavit_core.errors import InputError
from lavit_core.json_lines import iterate_json_lines
from lavit_core.layouts.columns import Columns, guess_columns
from lavit_core.layouts.place import Place, bad_line, key_of, locate, one_of, say_prefix, short
from lavit_core.line_store import SortedRows
from lavit_core.records import Contents, ListedImage, Problem, Question

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".txt")
METADATA = ("metadata.jsonl", "metadata.csv")
MAX_FIELD_BYTES = 1 << 24
"""Longest field of a CSV file."""


def read_metadata(place: Place) -> Contents | None:
    """Return an imagefolder: metadata.jsonl or metadata.csv of the folder; None if it has neither."""
    if place.file is not None and place.file.name not in METADATA:
        return None
    files = [place.root / name for name in METADATA if (place.root / name).is_file()]
    if not files:
        return None
    file = one_of(files, "lists of the same images", place.root)
    return _read(place, file, _columns(place, file), layout="imagefolder")


def read_table(place: Place) -> Contents | None:
    """Return the only table of the folder that names images and has texts for them, else None.

    Raises InputError for several, and for a table that was named and lacks a column.
    """
    if place.file is not None:
        files = place.files(*SUFFIXES)
        return _read(place, files[0], _columns(place, files[0]), layout="table") if files else None
    # A folder has text files of many kinds; only this one is a published table (Flickr8k).
    files = [file for file in place.files(*SUFFIXES) if file.suffix.lower() != ".txt" or file.name == "captions.txt"]
    known = {file: _guess(place, file) for file in files}
    useful = [file for file, columns in known.items() if columns is not None and columns.useful]
    if not useful:
        return None
    file = one_of(useful, "tables of images", place.root)
    return _read(place, file, _columns(place, file), layout="table")


def read_named_columns(place: Place) -> Contents | None:
    """Return the only table of the folder that has a column of a name that was given, else None.

    Raises InputError for several, and for one that lacks another column.
    """
    source = place.source
    given = {source.image_column, source.caption_column} - {None, "none"}
    files = [file for file in place.files(".csv", ".tsv", ".jsonl", ".json") if given & set(_names(place, file))]
    if not files:
        return None
    file = one_of(files, "tables with the columns that were named", place.root)
    return _read(place, file, _columns(place, file), layout="table")


def _guess(place: Place, file: Path) -> Columns | None:
    names, source = _names(place, file), place.source
    return guess_columns(names, image=source.image_column, caption=source.caption_column) if names else None


def _columns(place: Place, file: Path) -> Columns:
    """Return the columns of a table. Raises InputError if it has no column for images, or none for texts."""
    names, source = _names(place, file), place.source
    columns = guess_columns(names, image=source.image_column, caption=source.caption_column)
    used = [name for field, name in vars(columns).items() if field != "guessed"]
    if twice := next((name for name in names if name in used and names.count(name) > 1), None):
        raise InputError(f"{file}: column {twice!r} stands twice, and one of them would be lost; rename it")
    has = f"found {', '.join(map(repr, names)) or 'nothing'}"
    if columns.image is None:
        wanted = repr(source.image_column) if source.image_column else "of image names"
        raise InputError(f"{file}: no column {wanted}, {has}; give --image-column NAME")
    if source.caption_column not in (None, "none") and columns.caption is None:
        raise InputError(f"{file}: no column {source.caption_column!r}, {has}; give --caption-column NAME")
    if not columns.useful and source.caption_column != "none":
        raise InputError(
            f"{file}: no column of captions, {has}; give --caption-column NAME, or none to read images alone"
        )
    return columns


def _names(place: Place, file: Path) -> list[str]:
    """Return the names of a table's columns; of JSON, those of its first object."""
    if file.suffix.lower() == ".json":
        first = next(iter(_json_rows(place, file)), None)
        return [str(name) for name in first] if isinstance(first, dict) else []
    if file.suffix.lower() == ".jsonl":
        first = next(iterate_json_lines(file, lambda message: None), (1, None))[1]
        return [str(name) for name in first] if isinstance(first, dict) else []
    with _opened(file) as handle:
        try:
            line = handle.readline(MAX_FIELD_BYTES)
        except ValueError as error:
            raise InputError(f"{file}: not readable as UTF-8 text ({error})") from None
    return next(csv.reader([line], delimiter=_delimiter(line)), [])


def _read(place: Place, file: Path, columns: Columns, *, layout: str) -> Contents:
    contents = Contents(layout=layout, root=place.root, files=[file], named_by=str(columns.image))
    contents.heeded |= {"image_column", "caption_column"}
    prefix = ""
    if layout == "table":
        rows = _rows(place, file, Contents(layout=layout, root=place.root))  # reports nothing: they are read again
        contents.root, prefix = locate(place, (row.get(str(columns.image)) for _, row in rows))
    contents.notes += [f"{file.name}: {'; '.join(columns.guessed)}"] if columns.guessed else []
    contents.notes += say_prefix(prefix)
    add_rows(contents, file, (TableRow(*row) for row in _rows(place, file, contents)), columns, prefix)
    return contents


class TableRow(NamedTuple):
    """One row of a table: its number and its cells by column."""

    number: int
    cells: dict[str, Any]
    place: Sequence[Any] = ()
    """Where the image lies, if inside another file (`lavit_core.image_places`)."""
    size: int | None = None
    """Size in bytes of such an image."""


def add_rows(contents: Contents, file: Path, rows: Iterable[TableRow], columns: Columns, prefix: str) -> None:
    """Add the captions and questions of a table's rows; rows of one image are joined."""
    found, ids, num_rows = SortedRows(), set[Any](), 0
    questions: list[tuple[Any, Question]] = []
    for number, row, place, size in rows:
        num_rows += 1
        key, wrong = key_of(row.get(str(columns.image)), contents.root, prefix)
        name = row.get(columns.question_id) if columns.question_id else None
        if columns.question is not None and isinstance(name, int | str):
            ids.add(name)
        if wrong:
            contents.problems.append(bad_line(file, number, f"{columns.image} {wrong}"))
            continue
        texts = [] if columns.caption is None else caption_texts(row.get(columns.caption))
        if texts is None:
            message = f"{columns.caption} is {short(row.get(str(columns.caption)))}, expected a string or several"
            contents.problems.append(bad_line(file, number, message))
        found.add(key, texts or [], place, size)
        if columns.question is not None:
            question, answer = row.get(columns.question), row.get(str(columns.answer))
            if not isinstance(question, str) or not isinstance(answer, str):
                message = f"question {short(question)}, answer {short(answer)}, expected two strings"
                contents.problems.append(bad_line(file, number, message))
                continue
            kind = row.get(columns.kind) if columns.kind else None
            kind = kind if isinstance(kind, str) else None
            questions.append((name, Question(number, key, question, answer, kind)))
    if len(ids) == num_rows:
        questions = [(name, dataclasses.replace(question, question_id=name)) for name, question in questions]
    contents.questions += [question for _, question in questions]
    contents.listed = _joined(found)


def _joined(rows: SortedRows) -> Iterator[ListedImage]:
    for key, same in itertools.groupby(rows, key=itemgetter(0)):
        texts, places, sizes = zip(*(row[1:] for row in same), strict=True)
        last = max((number for number, place in enumerate(places) if place), default=0)
        yield ListedImage(key, list(itertools.chain(*texts)), places[last], sizes[last])


def caption_texts(value: Any) -> list[str] | None:
    """Return the captions in one cell: a string, or a list of strings or of {"raw": string}; None if it is another."""
    if isinstance(value, str):
        return [value]
    if value is None:
        return []
    if isinstance(value, list):
        texts = [one.get("raw") if isinstance(one, dict) else one for one in value]
        strings = [text for text in texts if isinstance(text, str)]
        return strings if len(strings) == len(texts) else None
    return None


def _json_rows(place: Place, file: Path) -> list[Any]:
    value = place.json_files.get(file)
    return value if isinstance(value, list) else []


def _rows(place: Place, file: Path, contents: Contents) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, {column: value}) of a table; collect what is wrong with its lines."""
    if file.suffix.lower() in (".jsonl", ".json"):
        values: Iterable[tuple[int, Any]] = enumerate(_json_rows(place, file))
        if file.suffix.lower() == ".jsonl":
            values = iterate_json_lines(file, lambda message: contents.problems.append(Problem("line", message)))
        for number, row in values:
            if isinstance(row, dict):
                yield number, row
            else:
                contents.problems.append(bad_line(file, number, f"found {short(row)}, expected an object"))
        return
    with _opened(file) as handle:
        delimiter = _delimiter(handle.readline(MAX_FIELD_BYTES))
        handle.seek(0)
        reader = csv.reader(handle, delimiter=delimiter, strict=True)
        names: list[str] = []
        while True:
            try:
                cells = next(reader, None)
            except (csv.Error, ValueError) as error:
                contents.problems.append(bad_line(file, reader.line_num, f"not valid CSV ({error})"))
                return
            if cells is None:
                return
            if not names:
                names = cells
            elif len(cells) != len(names):
                if cells:
                    message = f"{len(cells)} columns, expected the {len(names)} of the first line"
                    contents.problems.append(bad_line(file, reader.line_num, message))
            else:
                yield reader.line_num, dict(zip(names, cells, strict=True))


def _opened(file: Path) -> io.TextIOWrapper:
    csv.field_size_limit(MAX_FIELD_BYTES)
    try:
        return open(file, encoding="utf-8-sig", newline="", errors="strict")
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror})") from None


def _delimiter(line: str) -> str:
    """Return what separates the columns of a table: the character that is most often in its first line."""
    return max(",\t;|", key=line.count)

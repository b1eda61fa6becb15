"""Tables with a line for each image or caption: CSV, TSV, JSON lines, JSON, and the metadata files of imagefolder.

captions.csv       image,caption            also with tabs, semicolons or bars; also named captions.txt
data.jsonl         {"image": "images/1.jpg", "text": "a dog"}
data.json          [{"image": "images/1.jpg", "text": "a dog"}]
metadata.csv       file_name,text           names are relative to the folder of the file
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.json_lines import iterate_json_lines
from lavit_core.layouts.columns import Columns, guess_columns
from lavit_core.layouts.place import Place, bad_line, key_of, locate, one_of, say_prefix, short
from lavit_core.records import Contents, Problem, Question

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
    rows = list(_rows(place, file, contents))
    names = [row.get(str(columns.image)) for _, row in rows]
    prefix = ""
    if layout == "table":
        contents.root, prefix = locate(place, names)
    contents.notes += [f"{file.name}: {'; '.join(columns.guessed)}"] if columns.guessed else []
    contents.notes += say_prefix(prefix)
    add_rows(contents, file, rows, columns, prefix)
    return contents


def add_rows(
    contents: Contents, file: Path, rows: Sequence[tuple[int, dict[str, Any]]], columns: Columns, prefix: str
) -> None:
    """Add the captions and questions of a table's rows; rows of one image are joined."""
    captions: dict[str, list[str]] = {}
    ids = [row.get(columns.question_id) for _, row in rows] if columns.question_id else []
    by_id = all(isinstance(one, int | str) for one in ids) and len(set(ids)) == len(rows)
    for number, row in rows:
        key, wrong = key_of(row.get(str(columns.image)), contents.root, prefix)
        if wrong:
            contents.problems.append(bad_line(file, number, f"{columns.image} {wrong}"))
            continue
        texts = captions.setdefault(key, [])
        if columns.caption is not None:
            found = caption_texts(row.get(columns.caption))
            if found is None:
                message = f"{columns.caption} is {short(row.get(columns.caption))}, expected a string or several"
                contents.problems.append(bad_line(file, number, message))
            else:
                texts += found
        if columns.question is not None:
            question, answer = row.get(columns.question), row.get(str(columns.answer))
            if not isinstance(question, str) or not isinstance(answer, str):
                message = f"question {short(question)}, answer {short(answer)}, expected two strings"
                contents.problems.append(bad_line(file, number, message))
                continue
            name = row[columns.question_id] if by_id and columns.question_id else number
            kind = row.get(columns.kind) if columns.kind else None
            kind = kind if isinstance(kind, str) else None
            contents.questions.append(Question(name, key, question, answer, kind))
    contents.captions = {key: tuple(texts) for key, texts in captions.items()}


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

"""Tables whose cells hold the encoded images, as Hugging Face's Image column does: {"bytes": ..., "path": ...}."""

import dataclasses
import itertools
import json
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.image_places import place_of
from lavit_core.images import StoredImage
from lavit_core.layouts.columns import IMAGE, Columns, guess_columns
from lavit_core.layouts.place import wrong_key
from lavit_core.layouts.table import TableRow, add_rows
from lavit_core.line_store import LineStore, SortedRows
from lavit_core.records import Contents, Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One row: its texts by column, the path in its image cell, and the image, None where the cell holds no bytes."""

    texts: dict[str, Any]
    path: str | None
    image: StoredImage | None
    size: int
    number: str
    """Its key if paths can't be used."""


def columns_of(schema: Any, source: Source, where: Path) -> tuple[Columns, bool]:
    """Return the columns of an Arrow schema, and whether the image column holds bytes (and not names alone).

    Raises InputError if there is no column of images, or none of texts and no `none` was given.
    """
    embedded = [field.name for field in schema if _holds_bytes(field.type)]
    usual = [name for name in IMAGE if name in embedded]
    image = source.image_column or next(iter([*usual, *embedded]), None)
    columns = guess_columns(schema.names, image=image, caption=source.caption_column)
    if source.image_column is None and image is not None:
        columns = dataclasses.replace(
            columns, guessed=(f"column {image!r} holds the image (--image-column)", *columns.guessed)
        )
    has = f"found {', '.join(map(repr, schema.names))}"
    if columns.image is None:
        raise InputError(f"{where}: no column of images, {has}; give --image-column NAME")
    if source.caption_column not in (None, "none") and columns.caption is None:
        raise InputError(f"{where}: no column {source.caption_column!r}, {has}; give --caption-column NAME")
    if not columns.useful and source.caption_column != "none":
        raise InputError(f"{where}: no column of captions, {has}; give --caption-column NAME, or none for images alone")
    if columns.image not in embedded and not _holds_names(kind := schema.field(columns.image).type):
        raise InputError(f"{where}: column {columns.image!r} is {kind}, expected one image or one name of a file a row")
    return columns, columns.image in embedded


def joined_columns(found: Sequence[tuple[Path, Columns]]) -> Columns:
    """Return the columns of files that are one data set; captions may be absent in some of them.

    Raises InputError where the same texts are in columns of different names: those of one would be lost.
    """
    first, joined = found[0]
    for file, columns in found[1:]:
        for what in ("caption", "question", "answer", "question_id", "kind"):
            one, other = getattr(joined, what), getattr(columns, what)
            may_be_absent = what not in ("question", "answer") and None in (one, other)
            if one != other and not may_be_absent:
                raise InputError(
                    f"{file}: {what}s are in {_column(other)}, but in {first} in {_column(one)}; rename one of them, "
                    "or list both in a sources.yaml, each with its own columns"
                )
            if one is None and other is not None:
                joined = dataclasses.replace(joined, **{what: other})
    return joined


def _column(name: str | None) -> str:
    return "no column" if name is None else f"column {name!r}"


def text_columns(columns: Columns) -> list[str]:
    """Return the columns that are read for their texts."""
    named = (columns.caption, columns.question, columns.answer, columns.question_id, columns.kind)
    return list(dict.fromkeys(name for name in named if name is not None and name != columns.image))


def _holds_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _holds_names(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def paths_and_sizes(cells: Any, embedded: bool) -> tuple[list[str | None], list[int | None]]:
    """Return paths and sizes in bytes of an Arrow column of images; no byte of an image is read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not embedded:
        return cells.to_pylist(), [None] * len(cells)
    if not pa.types.is_struct(cells.type):
        return [None] * len(cells), pc.binary_length(cells).to_pylist()
    names = [cells.type.field(place).name for place in range(cells.type.num_fields)]
    paths = pc.struct_field(cells, "path").to_pylist() if "path" in names else [None] * len(cells)
    return paths, pc.binary_length(pc.struct_field(cells, "bytes")).to_pylist()


def cell_bytes(cell: Any) -> bytes:
    """Return the encoded image in a cell. Raises OSError if it holds none."""
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(found, bytes):
        if isinstance(cell, dict) and cell.get("path"):
            why = f"the cell has the path {cell['path']} and no bytes, and paths out of the file are not followed"
            raise OSError(f"{why}; `datasets` writes the bytes with save_to_disk")
        raise OSError("the cell is empty")
    return found


def add_embedded(contents: Contents, file: Path, rows: Iterable[Row], columns: Columns) -> None:
    """Add rows to contents: keys are the paths in the image cells, or numbers of rows if one is missing or repeats."""
    contents.heeded |= {"image_column", "caption_column"}
    kept, named, inside = LineStore(), SortedRows(), True
    for row in rows:
        inside = inside and row.image is not None
        place = [] if row.image is None else place_of(row.image, "", contents.root)
        if row.path is not None and wrong_key(row.path) is None:
            named.add(posixpath.normpath(row.path))
        kept.append(json.dumps([row.texts, row.path, row.number, place, row.size], default=_no_text).encode())
    by_path = len(named) == len(kept) and all(one != other for one, other in itertools.pairwise(named))
    if not by_path and inside:
        contents.notes.append("image names are missing, repeat or lead out of the data: keys are numbers of rows")
    contents.notes += [f"{file.name}: {'; '.join(columns.guessed)}"] if columns.guessed else []

    def keyed() -> Iterator[TableRow]:
        for number, line in enumerate(kept.lines(0, len(kept))):
            texts, path, own_number, place, size = json.loads(line)
            key = str(path if by_path or not inside else own_number)
            yield TableRow(number, {**texts, str(columns.image): key}, place, size if place else None)

    add_rows(contents, file, keyed(), columns, "")


def _no_text(value: Any) -> dict[str, str]:
    """Return what stands for a cell that is no text, say a date: it is refused where a text is expected."""
    return {type(value).__name__: str(value)}

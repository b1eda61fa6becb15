"""Parquet files of the Hugging Face hub and of img2dataset, with images or their names in a column.

data/train-00000-of-00002.parquet      image: {"bytes": ..., "path": "1.jpg"}, text: "a dog"

They are read with pyarrow, a row group at a time: `datasets` would write a copy of all images into its cache first.
"""

import contextlib
import dataclasses
import posixpath
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import Any

from lavit_core.errors import InputError
from lavit_core.folders import find_files
from lavit_core.images import SUFFIXES, StoredImage
from lavit_core.layouts.embedded import Row, add_embedded, cell_bytes, columns_of, joined_columns, text_columns
from lavit_core.layouts.place import Place
from lavit_core.layouts.splits import chosen_splits
from lavit_core.records import Contents, Source

MAX_GROUP_BYTES = 1 << 31
"""Largest row group that is read for one image."""

KEPT_GROUPS = 4
"""Row groups kept in memory by a process."""

READING = threading.Lock()
"""Held while a row group is read: threads that want the same one would each read it."""


@dataclasses.dataclass(frozen=True, slots=True)
class ParquetImage:
    """An image in a cell of a Parquet file."""

    file: Path
    column: str
    group: int
    row: int
    """Number in its row group."""

    def __str__(self) -> str:
        return f"{self.file}: row {self.row} of row group {self.group}"

    def read_bytes(self) -> bytes:
        """Return the encoded image. Raises OSError."""
        with READING:
            cells = _group(self.file, self.group, self.column)
        return cell_bytes(cells[self.row].as_py())


def read_parquet(place: Place) -> Contents | None:
    """Return the images of the Parquet files of the folder or of data/ below it; None without such files.

    Raises InputError if a split must be chosen, if pyarrow is not installed, or for a file that can't be read.
    """
    files = [file for file in place.files(".parquet") if not _belongs_to_tar(file)]
    if place.file is None and not files:
        files = sorted(place.root.glob("*/*.parquet"))
        files = [file for file in files if not _belongs_to_tar(file)]
    if not files:
        return None
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InputError(
            f"{files[0]}: Parquet files need pyarrow, which is not installed; pip install 'lavit-core[parquet]'"
        ) from None
    splits = chosen_splits(map(split_of, files), place.source.split, place.source.path)
    files = [file for file in files if split_of(file) in splits]
    contents = Contents(layout="parquet", root=place.root, files=files, named_by="image", heeded={"split"})
    try:
        found = []
        for file in files:
            with _readable(file):
                found.append((file, columns_of(pq.ParquetFile(file).schema_arrow, place.source, file)[0]))
        add_embedded(contents, files[0], _rows(files, place.source, place.root), joined_columns(found))
    except InputError:
        # A table of something else beside image files; read_folder names it.
        if place.file is None and place.source.image_column is None and _has_images(place.root):
            return None
        raise
    return contents


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not a readable Parquet file ({' '.join(str(error).split())})") from None


def name_stems(files: Iterable[str]) -> list[str]:
    """Return what numbers of rows stand behind: each file's name, or its path where several have that name."""
    paths = [file.removesuffix(".parquet") for file in files]
    times = Counter(map(posixpath.basename, paths))
    return [path if times[posixpath.basename(path)] > 1 else posixpath.basename(path) for path in paths]


def _rows(files: list[Path], source: Source, root: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    for file, stem in zip(files, name_stems(file.relative_to(root).as_posix() for file in files), strict=True):
        with _readable(file):
            opened = pq.ParquetFile(file)
            columns, embedded = columns_of(opened.schema_arrow, source, file)
            image = str(columns.image)
            held = partial(ParquetImage, file, image) if embedded else None
            yield from parquet_rows(str(file), stem, opened, image, text_columns(columns), file.stat().st_size, held)


def parquet_rows(
    file: str,
    stem: str,
    opened: Any,
    image: str,
    texts: list[str],
    size: int,
    held: Callable[[int, int], StoredImage] | None,
) -> Iterator[Row]:
    """Yield the rows of an opened Parquet file, whose texts alone are read.

    `stem` stands before the number of each row. `held` gives the image in a row of a row group; None where the column
    `image` holds names.
    Raises InputError for row groups that are too large.
    """
    embedded = held is not None
    field = opened.schema_arrow.field(image).type
    has_path = embedded and any(field.field(place).name == "path" for place in range(field.num_fields))
    names = [f"{image}.path"] if has_path else [] if embedded else [image]
    number = 0
    for group in range(opened.metadata.num_row_groups):
        count = opened.metadata.row_group(group).num_rows
        if embedded and (found := opened.metadata.row_group(group).total_byte_size) > MAX_GROUP_BYTES:
            raise InputError(
                f"{file}: row group {group} has {found:,} bytes, expected at most {MAX_GROUP_BYTES:,}; write it again "
                "with row_group_size=100"
            )
        wanted = [*texts, *names]
        values = opened.read_row_group(group, columns=wanted, use_threads=False).to_pylist() if wanted else [{}] * count
        for row, value in enumerate(values):
            cell = value.pop(image, None) if names else None
            stored = held(group, row) if held is not None else None
            path = cell.get("path") if isinstance(cell, dict) else cell
            yield Row(texts=value, path=path, image=stored, size=size, number=f"{stem}/{number:08d}")
            number += 1


@lru_cache(maxsize=KEPT_GROUPS)
def _group(file: Path, group: int, column: str) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(file).read_row_group(group, columns=[column], use_threads=False).column(0)


def _has_images(root: Path) -> bool:
    return any(True for _ in find_files(root, SUFFIXES))


def _belongs_to_tar(file: Path) -> bool:
    """Return whether a file is img2dataset's list of a tar or folder, which holds no images."""
    return file.with_suffix(".tar").exists() or file.with_suffix("").is_dir()


def split_of(file: PurePath) -> str:
    """Return the split that a file's name or folder tells, as Hugging Face reads them, or ""."""
    words = [word for name in (file.stem, file.parent.name) for word in re.split(r"[^a-z]+", name.lower())]
    known = ("train", "validation", "valid", "val", "dev", "test", "eval")
    return next((word for word in words if word in known), "")

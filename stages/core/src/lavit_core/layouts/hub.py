"""Data sets of the Hugging Face hub, `hub:OWNER/NAME[@REVISION]`, read where they lie if the network is allowed.

Texts are read when the data set is opened, images when they are needed: a row group of a Parquet file at a time, by
range requests. Nothing is stored. Of data sets in other formats the hub's own conversion to Parquet is read.
"""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

from lavit_core.errors import InputError
from lavit_core.layouts.embedded import Row, add_embedded, cell_bytes, columns_of, joined_columns, text_columns
from lavit_core.layouts.parquet import KEPT_GROUPS, READING, name_stems, parquet_rows, split_of
from lavit_core.layouts.splits import chosen_splits
from lavit_core.progress import Progress
from lavit_core.records import Contents, Source

PREFIX = "hub:"
CONVERTED = "refs/convert/parquet"
"""Revision in which the hub keeps its conversion of a data set to Parquet."""

_NAME = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


@dataclasses.dataclass(frozen=True, slots=True)
class HubImage:
    """An image in a cell of a Parquet file on the hub."""

    folder: str
    """As the hub's file system calls it: datasets/OWNER/NAME@COMMIT."""
    file: str
    column: str
    group: int
    row: int

    def __str__(self) -> str:
        return f"{PREFIX}{self.folder.removeprefix('datasets/')}/{self.file}: row {self.row} of row group {self.group}"

    def read_bytes(self) -> bytes:
        """Return the encoded image. Raises OSError, also where the hub is not reached."""
        with READING:
            cells = _group(self.folder, self.file, self.group, self.column, os.getpid())
        return cell_bytes(cells[self.row].as_py())


def is_hub(path: Path) -> bool:
    """Return whether a path is a name on the hub and no file or folder here."""
    return str(path).startswith(PREFIX) and not os.path.exists(path)


def check_hub(source: Source) -> None:
    """Raise InputError, before anything is asked for, unless the network is allowed and the name can be one."""
    name = _NAME.fullmatch(str(source.path))
    if name is None:
        raise InputError(f"{source.path}: expected hub:OWNER/NAME or hub:OWNER/NAME@REVISION")
    if not source.allow_network:
        download = f"hf download {name[1]} --repo-type dataset --local-dir DIR"
        raise InputError(
            f"{source.path}: this is on the Hugging Face hub, and no command connects unless --allow-network is given; "
            f"or give DIR after `{download}`"
        )


def read_hub(source: Source) -> Contents:
    """Return the images of a data set on the hub; of its texts those of the chosen splits are read.

    Raises InputError if it is not reached, holds no Parquet files, or a split must be chosen.
    """
    check_hub(source)
    name = _NAME.fullmatch(str(source.path))
    assert name is not None, "check_hub refuses other names"
    try:
        import huggingface_hub  # noqa: F401
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(
            f"{source.path}: the hub is read with what `datasets` needs; pip install 'lavit-core[datasets]'"
        ) from None
    try:
        commit, sizes = _parquet_files(name[1], name[2])
        splits = chosen_splits((split_of(PurePosixPath(file)) for file in sizes), source.split, source.path)
        files = [file for file in sizes if split_of(PurePosixPath(file)) in splits]
        folder = f"datasets/{name[1]}@{commit}"
        contents = Contents(layout="hub", root=source.path, named_by="image")
        contents.heeded.add("split")
        contents.files = [Path(f"{PREFIX}{name[1]}@{commit}", file) for file in files]
        contents.notes.append(f"commit {commit[:12]} of {len(files)} Parquet files; @{commit} reads the same again")
        found = []
        for file, where in zip(files, contents.files, strict=True):
            found.append((where, columns_of(_opened(folder, file, os.getpid()).schema_arrow, source, where)[0]))
        with Progress("reading texts", len(files), unit="file") as bar:
            add_embedded(contents, Path(files[0]), _rows(source, folder, sizes, files, bar), joined_columns(found))
    # The client raises its own kinds, and those of the libraries below it, for whatever goes wrong on the way.
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{source.path}: not read ({reason}); gated data sets need `hf auth login`") from None
    return contents


def _parquet_files(name: str, revision: str | None) -> tuple[str, dict[str, int]]:
    """Return the commit of a revision and the sizes of its Parquet files, or of those that the hub converted."""
    from huggingface_hub import HfApi

    for wanted in (revision,) if revision else (None, CONVERTED):
        info = HfApi().dataset_info(name, revision=wanted, files_metadata=True)
        found = {one.rfilename: one.size or 0 for one in info.siblings or () if one.rfilename.endswith(".parquet")}
        if found:
            return str(info.sha), dict(sorted(found.items()))
    raise ValueError("no Parquet files in it, and the hub has not converted it")


def _rows(source: Source, folder: str, sizes: Mapping[str, int], files: Sequence[str], bar: Progress) -> Iterator[Row]:
    for file, stem in zip(files, name_stems(files), strict=True):
        opened = _opened(folder, file, os.getpid())
        where = Path(f"{PREFIX}{folder.removeprefix('datasets/')}", file)
        columns, embedded = columns_of(opened.schema_arrow, source, where)
        if not embedded:
            raise InputError(
                f"{where}: column {columns.image!r} holds names and no images; download the data set and give DIR"
            )
        image = str(columns.image)
        held = partial(HubImage, folder, file, image)
        yield from parquet_rows(str(where), stem, opened, image, text_columns(columns), sizes[file], held)
        bar.advance()


@lru_cache(maxsize=64)
def _opened(folder: str, file: str, process: int) -> Any:
    """Return a Parquet file of which ranges are read; each process has connections of its own."""
    import pyarrow.parquet as pq
    from huggingface_hub import HfFileSystem

    handle = HfFileSystem().open(f"{folder}/{file}", "rb", cache_type="none")
    return pq.ParquetFile(handle, pre_buffer=True)


@lru_cache(maxsize=KEPT_GROUPS)
def _group(folder: str, file: str, group: int, column: str, process: int) -> Any:
    return _opened(folder, file, process).read_row_group(group, columns=[column], use_threads=False).column(0)

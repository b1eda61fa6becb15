"""Tables of a data set folder: parquet files, or what the datasets library writes with save_to_disk.

data/validation-00000-of-00068.parquet                 table "validation"
testdev_balanced_images/testdev-00000-of-00001.parquet  table "testdev_balanced_images/testdev"
dataset_dict.json  val/state.json  val/*.arrow          table "val"
state.json  data-00000-of-00002.arrow                   one table, named after the folder
"""

import contextlib
import hashlib
import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_scoring.catalogue import find_below

BATCH_ROWS = 64
"""Rows read at once: with images in them a few megabytes."""
STATE_FILE = "state.json"
_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")


@dataclass(frozen=True, kw_only=True)
class Table:
    """One split of a data set."""

    name: str
    paths: tuple[Path, ...]
    """Parquet files in the order of their rows, or the one folder that save_to_disk wrote."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns; empty if there is no row. Raises InputError for a damaged file."""
        return list(next(self.rows(), {}))

    @property
    def num_rows(self) -> int:
        """Rows of all files. Raises InputError for a damaged file."""
        return sum(_num_rows(path) for path in self.paths)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each row as stored values; an image is {"bytes", "path"}. Raises InputError for a damaged file."""
        for path in self.paths:
            with _opened(path) as dataset:
                for batch in dataset.with_format("arrow").iter(BATCH_ROWS):
                    yield from batch.to_pylist()


def find_tables(root: Path) -> dict[str, Table]:
    """Return the tables of a folder by name; empty if it is not a data set. No file is opened."""
    found: dict[str, list[Path]] = {}
    for state in find_below(root, STATE_FILE, depth=3):
        name = state.parent.relative_to(root).as_posix()
        found[root.name if name == "." else name] = [state.parent]
    if not found:
        for file in find_below(root, "*.parquet", depth=3):
            found.setdefault(_table_name(file, root), []).append(file)
    return {name: Table(name=name, paths=tuple(paths)) for name, paths in sorted(found.items())}


def files_digest(tables: dict[str, Table]) -> str:
    """Return the SHA-256 of every table's name and of its files' names and sizes in bytes."""
    digest = hashlib.sha256()
    for table in tables.values():
        for path in table.paths:
            for file in sorted(path.glob("*.arrow")) if path.is_dir() else (path,):
                digest.update(f"{table.name}\0{file.name}\0{file.stat().st_size}\n".encode())
    return digest.hexdigest()


def _table_name(file: Path, root: Path) -> str:
    """Return the table a parquet file belongs to: its folders and its split; the hub's `data/` adds nothing."""
    folders = [part for part in file.relative_to(root).parts[:-1] if part not in ("data", "default")]
    shard = _SHARD.fullmatch(file.stem)
    if shard:
        return "/".join([*folders, shard["split"]])
    # The hub's own conversion: default/validation/0000.parquet.
    return "/".join(folders if file.stem.isdecimal() and folders else [*folders, file.stem])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Give a parquet file, or a folder of save_to_disk, as the library's data set. Raises InputError."""
    try:
        import datasets
        import pyarrow
    except ModuleNotFoundError:
        raise InputError(
            f"{path}: reading it needs the datasets library; run `pip install 'lavit-evaluation[tables]'`"
        ) from None
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # else it reports each load to the hub
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # errors are reported below, in one line
    try:
        if path.is_dir():
            yield datasets.load_from_disk(str(path))
            return
        # Streamed, so that nothing is copied; the cache holds a lock file alone.
        with tempfile.TemporaryDirectory() as cache:
            yield datasets.load_dataset("parquet", data_files=[str(path)], split="train", streaming=True,
                                        cache_dir=cache, batch_size=BATCH_ROWS)  # fmt: skip
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not readable as a table ({' '.join(str(error).split())[:160]})") from None


def _num_rows(path: Path) -> int:
    with _opened(path) as dataset:
        if path.is_dir():
            return len(dataset)
        import pyarrow.parquet

        return int(pyarrow.parquet.read_metadata(path).num_rows)

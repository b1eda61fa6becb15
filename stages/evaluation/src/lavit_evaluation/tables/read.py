"""Tables of a data set folder: parquet files, or what the datasets library writes with save_to_disk. Needs pyarrow.

data/validation-00000-of-00068.parquet                 table "validation"
testdev_balanced_images/testdev-00000-of-00001.parquet  table "testdev_balanced_images/testdev"
dataset_dict.json  val/state.json  val/*.arrow          table "val"
state.json  data-00000-of-00002.arrow                   one table, named after the folder
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lavit_core.errors import InputError
from lavit_core.files import read_json

BATCH_ROWS = 64
"""Rows read at once: with pictures in them a few megabytes."""
STATE_FILE = "state.json"
_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")


@dataclass(frozen=True, kw_only=True)
class Table:
    """One split of a data set."""

    name: str
    files: tuple[Path, ...]
    """In the order of their rows."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns, none where there is no row. Raises InputError for a damaged file."""
        first = next(_batches(self.files[0]), None) if self.files else None
        return [] if first is None else list(first.schema.names)

    @property
    def num_rows(self) -> int:
        """Rows of all files."""
        return sum(_count(file) for file in self.files)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each row as plain values; a picture is {"bytes", "path"}. Raises InputError for a damaged file."""
        for file in self.files:
            for batch in _batches(file):
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield from batch.slice(start, BATCH_ROWS).to_pylist()


def find_tables(root: Path) -> dict[str, Table]:
    """Return the tables of a folder by name, none where it is no data set."""
    found: dict[str, list[Path]] = {}
    for state in _at_most_three_down(root, STATE_FILE):
        named = read_json(state)
        files = named.get("_data_files") if isinstance(named, dict) else None
        if isinstance(files, list):
            name = state.parent.relative_to(root).as_posix()
            found[root.name if name == "." else name] = [state.parent / _file_name(one, state) for one in files]
    if not found:
        for file in _at_most_three_down(root, "*.parquet"):
            found.setdefault(_table_name(file, root), []).append(file)
    return {name: Table(name=name, files=tuple(files)) for name, files in sorted(found.items())}


def files_digest(tables: dict[str, Table]) -> str:
    """Return the SHA-256 of every table's name and of its files' names and sizes in bytes."""
    digest = hashlib.sha256()
    for table in tables.values():
        for file in table.files:
            digest.update(f"{table.name}\0{file.name}\0{file.stat().st_size}\n".encode())
    return digest.hexdigest()


def _file_name(listed: Any, state: Path) -> str:
    name = listed.get("filename") if isinstance(listed, dict) else None
    if not isinstance(name, str) or not name:
        raise InputError(f"{state}: found {str(listed)[:60]} in _data_files, expected {{'filename': ...}}")
    return Path(name).name


def _at_most_three_down(root: Path, name: str) -> list[Path]:
    return [path for depth in ("", "*/", "*/*/", "*/*/*/") for path in sorted(root.glob(depth + name))]


def _table_name(file: Path, root: Path) -> str:
    """Return the table a parquet file belongs to: its folders and its split; the hub's `data/` says nothing."""
    folders = [part for part in file.relative_to(root).parts[:-1] if part not in ("data", "default")]
    shard = _SHARD.fullmatch(file.stem)
    if shard:
        return "/".join([*folders, shard["split"]])
    # The hub's own conversion: default/validation/0000.parquet.
    return "/".join(folders if file.stem.isdecimal() and folders else [*folders, file.stem])


def _pyarrow(file: Path) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise InputError(f"{file}: reading it needs pyarrow; run `pip install 'lavit-evaluation[hub]'`") from None
    return pyarrow


def _batches(file: Path) -> Iterator[Any]:
    pyarrow = _pyarrow(file)
    try:
        if file.suffix == ".arrow":
            with pyarrow.memory_map(str(file)) as source, pyarrow.ipc.open_stream(source) as stream:
                yield from stream
        else:
            with pyarrow.parquet.ParquetFile(file) as opened:
                yield from opened.iter_batches(batch_size=BATCH_ROWS)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: not readable as a table ({' '.join(str(error).split())[:160]})") from None


def _count(file: Path) -> int:
    if file.suffix == ".arrow":
        return sum(int(batch.num_rows) for batch in _batches(file))
    pyarrow = _pyarrow(file)
    try:
        return int(pyarrow.parquet.read_metadata(file).num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: not readable as a table ({' '.join(str(error).split())[:160]})") from None

"""Where answers are kept while they are made, so that a job killed at any instant goes on with the next one.

Every store has three methods. `missing(keys)` returns the keys without an answer, in order; `add(keys, answers)` keeps
answers, which are on disk when it returns (`Shards`: once their shard is full); `read(keys)` returns the answers.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lavit_core.errors import InputError
from lavit_core.files import write_bytes
from lavit_core.images import png_bytes
from lavit_core.json_lines import append_json_lines, read_json_lines
from safetensors.numpy import load_file, save

REMEDY = "delete the file to answer everything again"


class Store(Protocol):
    """Answers by key."""

    def missing(self, keys: Sequence[Any]) -> list[Any]:
        """Return the keys without an answer."""

    def add(self, keys: Sequence[Any], answers: Iterable[Any]) -> None:
        """Keep one answer per key."""

    def read(self, keys: Sequence[Any]) -> Iterable[Any]:
        """Return the answers of the keys."""


class Memory:
    """Answers that live as long as the process."""

    def __init__(self) -> None:
        self.answers: dict[Any, Any] = {}

    def missing(self, keys: Sequence[Any]) -> list[Any]:
        """Return the keys without an answer."""
        return [key for key in keys if key not in self.answers]

    def add(self, keys: Sequence[Any], answers: Iterable[Any]) -> None:
        """Keep one answer per key."""
        self.answers.update(zip(keys, answers, strict=True))

    def read(self, keys: Sequence[Any]) -> list[Any]:
        """Return the answers of the keys."""
        return [self.answers[key] for key in keys]


class AnswerLog(Memory):
    """An append-only file of JSON objects with an `id`, one a line; the answers are dictionaries.

    Raises InputError for a line that no kill can have left behind.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        for number, row in enumerate(read_json_lines(file, remedy=REMEDY), 1):
            if not (isinstance(row, dict) and isinstance(row.get("id"), int | str)):
                raise InputError(f"{file}:{number}: not an answer (an object with an `id`); {REMEDY}")
            self.answers[row["id"]] = row

    def add(self, keys: Sequence[Any], answers: Iterable[Any]) -> None:
        """Append one row per key and wait until the rows are on disk."""
        rows = [{"id": key, **answer} for key, answer in zip(keys, answers, strict=True)]
        self.file.parent.mkdir(exist_ok=True)
        append_json_lines(self.file, rows, sync=True)
        super().add(keys, rows)


class Arrays(Memory):
    """A folder with one safetensors file a batch; the answers are dictionaries of arrays of any type and shape."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.files = sorted(folder.glob("*.safetensors"))
        for file in self.files:
            for tensor, array in load_file(file).items():
                key, name = json.loads(tensor)
                self.answers.setdefault(key, {})[name] = array

    def add(self, keys: Sequence[Any], answers: Iterable[Any]) -> None:
        """Write one file with the arrays of all keys."""
        rows = list(answers)
        tensors = {
            json.dumps([key, name]): np.ascontiguousarray(array)
            for key, row in zip(keys, rows, strict=True)
            for name, array in row.items()
        }
        self.files.append(self.folder / f"{len(self.files):05d}.safetensors")
        write_bytes(self.files[-1], save(tensors))
        super().add(keys, rows)


class ImageFolder:
    """A folder of PNG files, whose names are the keys; the answers are uint8 [h, w, 3] arrays or PIL images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return the names without a file; files are written whole, so a file that exists is finished."""
        return [key for key in keys if not (self.folder / key).exists()]

    def add(self, keys: Sequence[str], answers: Iterable[Any]) -> None:
        """Write one file per name."""
        for key, image in zip(keys, answers, strict=True):
            (self.folder / key).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.folder / key, png_bytes(np.asarray(image)))

    def read(self, keys: Sequence[str]) -> list[Path]:
        """Return the file of each name."""
        return [self.folder / key for key in keys]


class Shards:
    """Float32 rows [D], `size` of them a safetensors file; a kill costs one shard at most.

    Keys must be added in the order in which they are read.
    """

    def __init__(self, folder: Path, *, size: int, tensor: str, prefix: str = "") -> None:
        self.folder, self.size, self.tensor, self.prefix = folder, size, tensor, prefix
        self._rows: list[np.ndarray] = []
        self._todo: list[tuple[Path, int]] = []

    def missing(self, keys: Sequence[Any]) -> list[Any]:
        """Return the keys whose shard is not on disk."""
        absent = [(file, part) for file, part in self._shards(keys) if not file.exists()]
        self._todo = [(file, len(part)) for file, part in absent]
        return [key for _, part in absent for key in part]

    def add(self, keys: Sequence[Any], answers: Iterable[Any]) -> None:
        """Take rows, and write each shard that they complete."""
        self._rows += [np.asarray(row, dtype=np.float32) for row in answers]
        while self._todo and len(self._rows) >= self._todo[0][1]:
            file, count = self._todo.pop(0)
            self.folder.mkdir(exist_ok=True)
            write_bytes(file, save({self.tensor: np.stack(self._rows[:count])}))
            del self._rows[:count]

    def read(self, keys: Sequence[Any]) -> Iterator[np.ndarray]:
        """Yield each shard's rows [n, D]."""
        for file, _ in self._shards(keys):
            yield load_file(file)[self.tensor]

    def _shards(self, keys: Sequence[Any]) -> Iterator[tuple[Path, Sequence[Any]]]:
        for start in range(0, len(keys), self.size):
            yield self.folder / f"{self.prefix}{start // self.size:05d}.safetensors", keys[start : start + self.size]

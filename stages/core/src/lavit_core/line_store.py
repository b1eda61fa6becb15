"""Lines and rows that are many: the last ones in memory, those before them in a file of the folder for temporary files.

A data set is listed in the same memory whatever its size; a small one never touches the disk.
"""

import heapq
import json
import os
import tempfile
from array import array
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from lavit_core.errors import InputError
from lavit_core.files import explain_write_errors

MEMORY_BYTES = 1 << 23
"""Most that one store holds in memory."""

OBJECT_BYTES = 150
"""What Python adds to a line, its key and their pair."""

BLOCK_LINES = 64
"""Lines of the file that are read at a time."""


class LineStore:
    """Lines without line breaks that are appended, and then read in any order."""

    def __init__(self) -> None:
        self._recent: list[bytes] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._starts = array("Q", [0])
        """First byte of each block of the file, and where the next one will begin."""
        self._block: tuple[int, list[bytes]] = (-1, [])
        """The block that was read last."""

    def __len__(self) -> int:
        return self._in_file + len(self._recent)

    @property
    def _in_file(self) -> int:
        return (len(self._starts) - 1) * BLOCK_LINES

    def append(self, line: bytes) -> None:
        """Add a line. Raises InputError if there is no folder for temporary files, or it is full."""
        self._recent.append(line)
        self._held += len(line) + OBJECT_BYTES
        if self._held > MEMORY_BYTES and len(self._recent) >= BLOCK_LINES:
            self._write()

    def _write(self) -> None:
        whole = len(self._recent) // BLOCK_LINES * BLOCK_LINES
        if self._file is None:
            self._file = _temporary_file()
        with explain_write_errors(Path(tempfile.gettempdir())):
            for first in range(0, whole, BLOCK_LINES):
                content = b"\n".join(self._recent[first : first + BLOCK_LINES])
                self._file.write(content)
                self._starts.append(self._starts[-1] + len(content))
            self._file.flush()
        del self._recent[:whole]
        self._held = sum(map(len, self._recent)) + OBJECT_BYTES * len(self._recent)

    def __getitem__(self, index: int) -> bytes:
        block, place = divmod(index, BLOCK_LINES)
        return self._recent[index - self._in_file] if index >= self._in_file else self._read(block)[place]

    def _read(self, block: int) -> list[bytes]:
        number, lines = self._block
        if number != block:
            assert self._file is not None, "blocks are in the file"
            start, end = self._starts[block : block + 2]
            # Forked processes share the place of an open file, which this leaves alone.
            lines = os.pread(self._file.fileno(), end - start, start).split(b"\n")
            self._block = (block, lines)
        return lines

    def lines(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield a range of lines; several ranges may be read in turn."""
        while start < min(stop, self._in_file):
            block, place = divmod(start, BLOCK_LINES)
            found = self._read(block)[place : place + stop - start]
            yield from found
            start += len(found)
        yield from self._recent[max(0, start - self._in_file) : max(0, stop - self._in_file)]


def _temporary_file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise InputError(
            f"no folder for temporary files ({error.strerror or error}), and this data set is listed on disk; give one "
            "in TMPDIR"
        ) from None


class SortedRows:
    """Rows of JSON values that are added in any order and read in the order of their first value, a string; rows that
    begin alike in the order in which they were added."""

    def __init__(self) -> None:
        self._store = LineStore()
        self._runs: list[tuple[int, int]] = []
        self._recent: list[tuple[str, bytes]] = []
        self._held = 0

    def __len__(self) -> int:
        return len(self._store) + len(self._recent)

    def add(self, key: str, *values: Any) -> None:
        """Add a row."""
        line = json.dumps((key, *values)).encode()
        self._recent.append((key, line))
        self._held += 2 * len(line) + OBJECT_BYTES
        if self._held > MEMORY_BYTES:
            self._sort()
            first = len(self._store)
            for _, line in self._recent:
                self._store.append(line)
            self._runs.append((first, len(self._store)))
            self._recent, self._held = [], 0

    def _sort(self) -> None:
        self._recent.sort(key=itemgetter(0))

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield the rows as lists; they can be read more than once."""
        self._sort()
        runs = [map(json.loads, self._store.lines(*run)) for run in self._runs]
        return heapq.merge(*runs, (json.loads(line) for _, line in self._recent), key=itemgetter(0))

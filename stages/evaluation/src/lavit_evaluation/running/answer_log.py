"""Answers as they are made, one JSON line each: what is on disk survives a kill at any instant, never made again."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from lavit_core.errors import InputError


class AnswerLog:
    """An append-only file of rows with an `id`. Use as a context manager."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[Any, dict[str, Any]] = {}
        self._handle: BinaryIO

    def __enter__(self) -> "AnswerLog":
        """Read what is there; a last line that a kill cut short is dropped from the file."""
        content = self.file.read_bytes() if self.file.exists() else b""
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].split(b"\n")[:-1], 1):
            try:
                row = json.loads(line)
                self.rows[row["id"]] = row
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{self.file}:{number}: not an answer ({error}); delete the file to answer everything again"
                ) from None
        self._handle = open(self.file, "ab")
        self._handle.truncate(whole)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows and wait until they are on disk."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self._handle.write(lines.encode())
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self.rows.update({row["id"]: dict(row) for row in rows})

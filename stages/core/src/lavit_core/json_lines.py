"""Files of one JSON value a line that grow while a job runs: a kill can cut the last line short, and no other."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError


def read_json_lines(file: Path) -> list[Any]:
    """Return the values of a file's lines, none where there is no file; a last line without its line break is left out.

    Raises InputError naming file and line for one that is no JSON: no kill does that.
    """
    content = file.read_bytes() if file.exists() else b""
    rows = []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise InputError(f"{file}:{number}: not valid JSON ({error}); the file is damaged") from None
    return rows


def append_json_line(file: Path, row: Mapping[str, Any]) -> None:
    """Append one line; what a kill left of a line before it is dropped, else both would be lost."""
    with open(file, "ab+") as handle:
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            if handle.read() != b"\n":
                handle.truncate(file.read_bytes().rfind(b"\n") + 1)
        handle.write(json.dumps(row).encode() + b"\n")

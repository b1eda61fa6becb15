"""Files that are read with a one-line error, and written whole or not at all."""

import codecs
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from lavit_scoring.errors import InputError


def read_bytes(path: Path) -> bytes:
    """Return a file's content. Raises InputError if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: file not found") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; a byte order mark is passed over.

    Raises InputError if it is missing or not valid JSON.
    """
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None


def read_json_lines(path: Path) -> list[Any]:
    """Return the values of a file with one JSON value per line. Raises InputError naming the line.

    Lines end at \\n alone, because a caption may contain any other line separator; blank lines and a byte order mark
    are left out.
    """
    rows = []
    for number, line in enumerate(read_bytes(path).removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        try:
            if line.strip():
                rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not valid JSON ({error})") from None
    return rows


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically: on any failure the old file stays as it was, and a link is written through.

    Raises InputError if `path` is a folder, a device, a pipe or a socket: replacing those would take them away.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: can't be written, expected a file name")
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as handle:
            handle.write(content.encode())
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

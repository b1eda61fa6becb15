r"""JSON Lines files: one JSON value a line. Lines end at \n only: U+2028 and the like may stand inside a value."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.files import explain_write_errors, write_chunks


def iterate_json_lines(file: Path, on_problem: Callable[[str], object] | None = None) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) for each line of a file that people write; blank lines and a BOM are skipped.

    Raises InputError naming file and line for a line that is not JSON or has a key twice; with `on_problem`, that is
    called with the message instead, and reading goes on.
    """
    load: Callable[[str], Any] = json.JSONDecoder(object_pairs_hook=_object).decode
    try:
        handle = open(file, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise InputError(f"{file}: file not found") from None
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror or error})") from None
    with handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                value = load(line.decode("utf-8-sig" if number == 1 else "utf-8").strip())
                if b"\\ud" in line or b"\\uD" in line:
                    json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                message = f"{file}:{number}: half a character (one \\ud800 to \\udfff alone), expected whole ones"
            except (ValueError, RecursionError) as error:
                message = f"{file}:{number}: not valid JSON ({error})"
            else:
                yield number, value
                continue
            if on_problem is None:
                raise InputError(message)
            on_problem(message)


class RepeatedKeyError(ValueError):
    """An object with a key that stands twice."""


def parse_json(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError for other text, and for a key that stands twice."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Raises RepeatedKeyError if it has a key twice: one of the values would be lost."""
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKeyError(f"key {next(key for key in keys if keys.count(key) > 1)!r} twice in one object")
    return value


def iterate_json_objects(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) as `iterate_json_lines` does. Raises InputError for any other JSON value too."""
    for number, value in iterate_json_lines(file):
        if not isinstance(value, dict):
            raise InputError(f"{file}:{number}: found {type(value).__name__}, expected one JSON object a line")
        yield number, value


def read_json_lines(file: Path, *, remedy: str = "the file is damaged") -> list[Any]:
    """Return the values of a file that a job appends to; [] if there is no file.

    A kill can cut the last line short, so a line without its line break is left out. Raises InputError naming file,
    line and `remedy` for any other line that is not JSON: no kill explains it.
    """
    content = file.read_bytes() if file.exists() else b""
    rows = []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}:{number}: not valid JSON ({error}); {remedy}") from None
    return rows


def append_json_lines(file: Path, rows: Iterable[Mapping[str, Any]], *, sync: bool = False) -> None:
    """Append one line a row, after removing an incomplete last line; with `sync` wait until they are on disk.

    Raises InputError if that fails.
    """
    with explain_write_errors(file), open(file, "ab+") as handle:
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            if handle.read() != b"\n":
                handle.truncate(file.read_bytes().rfind(b"\n") + 1)
        handle.writelines(_lines(rows))
        if sync:
            handle.flush()
            os.fsync(handle.fileno())


def write_json_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one row a line, atomically, as `append_json_lines` does: a resumed job's file equals a whole one's."""
    write_chunks(file, _lines(rows))


def _lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    return ((json.dumps(row, ensure_ascii=False) + "\n").encode() for row in rows)

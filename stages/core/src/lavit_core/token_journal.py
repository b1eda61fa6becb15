"""The journal of a token directory that is not finished: a line for each shard, appended once the shard is on disk.

Every task appends to a file of its own, so that tasks on several machines never write one file. A finished directory
has no journal: its lines have become manifest.json and errors.jsonl.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lavit_core.errors import InputError
from lavit_core.files import explain_write_errors, sync_folder
from lavit_core.json_lines import append_json_lines, write_json_lines
from lavit_core.token_format import JOURNAL_FOLDER, ShardEntry

KEPT_FILE = "kept.jsonl"
"""Journal of the shards that were there when a directory was opened again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedShard:
    """One shard that is on disk: its row of the manifest, its rows of errors.jsonl, its warnings by kind."""

    entry: ShardEntry
    errors: Sequence[Mapping[str, Any]] = ()
    warnings: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the line of the journal."""
        return {
            "shard": self.entry.model_dump(mode="json"),
            "errors": list(self.errors),
            "warnings": dict(self.warnings),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class JournalLine:
    """Where a line stands; its errors stay on disk, because there may be many."""

    entry: ShardEntry
    file: Path
    offset: int

    def read(self) -> FinishedShard:
        """Return the line with its errors. Raises InputError if it is damaged."""
        with open(self.file, "rb") as handle:
            handle.seek(self.offset)
            return _finished(handle.readline(), self.file, self.offset)


def journal_folder(out: Path) -> Path:
    """Return the folder of a token directory that holds its journal while it is unfinished."""
    return out / JOURNAL_FOLDER


def make_journal_folder(out: Path) -> None:
    """Mark a token directory as unfinished. Raises InputError if that fails."""
    with explain_write_errors(journal_folder(out)):
        journal_folder(out).mkdir(exist_ok=True)
        sync_folder(out)


def append_shard(file: Path, shard: FinishedShard) -> None:
    """Append the line of a shard that is on disk, and wait until the line is too. Raises InputError if that fails."""
    new = not file.exists()
    append_json_lines(file, [shard.row()], sync=True)
    if new:
        sync_folder(file.parent)


def read_journal(out: Path) -> dict[str, list[JournalLine]]:
    """Return the lines of all journals by shard, those of one shard in the order of their file's name and place.

    A last line that a kill cut short is left out. Raises InputError naming the file of any other damaged line.
    """
    found: dict[str, list[JournalLine]] = {}
    for file in sorted(journal_folder(out).glob("*.jsonl")):
        offset = 0
        with open(file, "rb") as handle:
            for line in handle:
                if line.endswith(b"\n"):
                    entry = _finished(line, file, offset).entry
                    found.setdefault(entry.file, []).append(JournalLine(entry, file, offset))
                offset += len(line)
    return found


def rewrite_journal(out: Path, shards: Iterable[FinishedShard]) -> None:
    """Make `shards` all that the journal holds. A kill in between leaves the old lines too."""
    file = journal_folder(out) / KEPT_FILE
    make_journal_folder(out)
    write_json_lines(file, (shard.row() for shard in shards))
    for other in journal_folder(out).glob("*.jsonl"):
        if other != file:
            other.unlink()


def remove_journal(out: Path) -> None:
    """Remove the journal of a directory that is finished; what another process holds open may stay for a while."""
    with contextlib.suppress(OSError):
        for file in list(journal_folder(out).iterdir()):
            file.unlink(missing_ok=True)
        journal_folder(out).rmdir()


def errors_of(lines: Iterable[JournalLine]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of errors.jsonl of the shards, in their order."""
    for line in lines:
        yield from line.read().errors


def _finished(line: bytes, file: Path, offset: int) -> FinishedShard:
    try:
        row = json.loads(line)
        entry = ShardEntry.model_validate(row["shard"])
        return FinishedShard(entry=entry, errors=row["errors"], warnings=row["warnings"])
    except (ValueError, KeyError, TypeError, ValidationError, RecursionError):
        raise InputError(
            f"{file}: damaged at byte {offset}, expected one JSON line a shard; delete this file (its shards are made "
            "again) and run the same `lavit tokenize-images`"
        ) from None

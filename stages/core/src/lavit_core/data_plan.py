"""The records of a data set on disk, cut into blocks: a job that goes on reads the block that it works on, no folder.

NAME.json             where the data is, its digest, the blocks, and what would have changed with the data
NAME-RANDOM.records   one JSON line a record: [key, captions], and where the image lies if not at its key
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lavit_core.data import Record, Source, open_data
from lavit_core.errors import InputError
from lavit_core.files import write_chunks, write_json
from lavit_core.image_places import UnnamedImage, place_of
from lavit_core.stored_records import record_of

VERSION = 1

DOUBT_NANOSECONDS = 2_000_000_000
"""What changed so shortly before it was read may change again without another time stamp."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataPlan:
    """A data set whose records are read block by block."""

    root: Path
    digest: str
    """As in `lavit_core.data.Data`."""
    num_records: int
    block_records: int
    """Records of a block; the last one may be shorter."""
    records: Sequence[Record] | Path
    """The records, or the file that holds them."""
    blocks: Sequence[tuple[int, int, int]] = ()
    """First byte, length and CRC-32 of each block of the file."""
    files: Sequence[Path] = ()
    """Files with captions, questions or images; of a plan in memory."""
    roots: Sequence[Path] = ()
    """Folders of a list of sources; of a plan in memory."""
    began_ns: int = 0
    """When reading the data began (time.time_ns)."""

    @property
    def in_memory(self) -> bool:
        """Whether the records are held in memory."""
        return not isinstance(self.records, Path)

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.num_records // self.block_records)

    def size(self, block: int) -> int:
        """Return how many records a block has."""
        return min(self.block_records, self.num_records - block * self.block_records)

    def read(self, block: int) -> Sequence[Record]:
        """Return the records of a block. Raises InputError if the file is damaged."""
        if not isinstance(self.records, Path):
            return self.records[block * self.block_records : (block + 1) * self.block_records]
        first, length, crc = self.blocks[block]
        try:
            with open(self.records, "rb") as handle:
                handle.seek(first)
                content = handle.read(length)
        except OSError as error:
            raise InputError(f"{self.records}: can't be read ({error.strerror or error})") from None
        if len(content) != length or zlib.crc32(content) != crc:
            raise InputError(
                f"{self.records}: block {block} is damaged; delete it (it is made again from the data) and run the "
                "same command"
            )
        return [_record(json.loads(line), self.root) for line in content.split(b"\n")[:-1]]


def open_plan(folder: Path, source: Source, block_records: int) -> DataPlan:
    """Return the plan of a data set: as `folder` has it, if the data is as it was then, else read from the data.

    Raises InputError as `open_data` does.
    """
    kept = read_plan(folder, source, block_records)
    if kept is not None:
        return kept
    began_ns = time.time_ns()
    data = open_data(source)
    return DataPlan(
        root=data.root,
        digest=data.digest,
        num_records=len(data.records),
        block_records=block_records,
        records=data.records,
        files=data.files,
        roots=tuple(data.roots.values()),
        began_ns=began_ns,
    )


def keep_plan(folder: Path, source: Source, plan: DataPlan) -> DataPlan:
    """Write a plan that is held in memory to `folder`, and return it as read from there.

    A data set whose images can't be named in a file stays in memory.
    """
    if not plan.in_memory:
        return plan
    file = plan_file(folder, source)
    records = folder / f"{file.stem}-{uuid.uuid4().hex}.records"
    blocks: list[tuple[int, int, int]] = []
    folders: set[str] = set()

    def lines() -> Iterator[bytes]:
        first = 0
        for block in range(plan.num_blocks):
            found = plan.read(block)
            folders.update(os.path.dirname(one.image) for one in found if isinstance(one.image, Path))
            rows = (_row(record, plan.root) for record in found)
            content = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
            blocks.append((first, len(content), zlib.crc32(content)))
            first += len(content)
            yield content

    try:
        write_chunks(records, lines())
    except UnnamedImage:
        return plan
    if (before := _load(file)) is not None and before.get("blocks") == [list(block) for block in blocks]:
        # Other tasks read that file.
        records.unlink()
        records = folder / before["records"]
    value = {
        "version": VERSION,
        "data": _words(source),
        "root": str(plan.root),
        "digest": plan.digest,
        "num_records": plan.num_records,
        "block_records": plan.block_records,
        "records": records.name,
        "blocks": blocks,
        "watched": _watched(plan, folders),
    }
    write_json(file, value)
    return dataclasses.replace(plan, records=records, blocks=blocks, files=(), roots=(), began_ns=0)


def read_plan(folder: Path, source: Source, block_records: int) -> DataPlan | None:
    """Return the plan that `folder` holds of a data set; None without one, or if the data may have changed since.

    Seen are files with captions and images that have another size or time, and folders to which something was added, or
    from which something was taken; not a file that was changed where it lies among others in a folder.
    """
    value = _load(plan_file(folder, source))
    try:
        records = folder / value["records"]
        if (
            value["version"] != VERSION
            or value["data"] != _words(source)
            or value["block_records"] != block_records
            or records.stat().st_size != sum(length for _, length, _ in value["blocks"])
            or any(stamp is None or _stamp(Path(path)) != stamp for path, stamp in value["watched"].items())
        ):
            return None
        return DataPlan(
            root=Path(value["root"]),
            digest=value["digest"],
            num_records=value["num_records"],
            block_records=block_records,
            records=records,
            blocks=[(first, length, crc) for first, length, crc in value["blocks"]],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _load(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def plan_file(folder: Path, source: Source) -> Path:
    """Return the file of the plan of one data set; another machine may see the data at another path."""
    return folder / f"plan-{hashlib.sha256(_words(source).encode()).hexdigest()[:16]}.json"


def _words(source: Source) -> str:
    # Records name their images as the user named the data, so that reasons in errors.jsonl stay the same.
    return json.dumps([os.getcwd(), dataclasses.asdict(source)], sort_keys=True, default=str)


def _row(record: Record, root: Path) -> list[Any]:
    return [record.key, record.captions, *place_of(record.image, record.key, root)]


def _record(row: list[Any], root: Path) -> Record:
    key, captions, *place = row
    return record_of(key, captions, place, root)


def _watched(plan: DataPlan, inside: Iterable[str]) -> dict[str, list[int] | None]:
    """Return the stamp of every file and folder that the data was read from, `inside` hold images; None if it is too
    new to be sure of."""
    roots = plan.roots or (plan.root,)
    folders = {plan.root, *roots}
    folders.update(path for folder in inside for root in roots for path in _up_to(Path(folder), root))
    stamps = {str(path.absolute()): _stamp(path) for path in (*plan.files, *sorted(folders))}
    before_ns = plan.began_ns - DOUBT_NANOSECONDS
    return {path: None if stamp is None or stamp[1] >= before_ns else stamp for path, stamp in stamps.items()}


def _up_to(folder: Path, root: Path) -> list[Path]:
    return [folder, *(above for above in folder.parents if above.is_relative_to(root))]


def _stamp(path: Path) -> list[int] | None:
    """Return size and time of a file, or of a folder's list of names; None if it can't be looked at."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns]
    return None

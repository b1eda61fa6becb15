"""The token directory that `tokenize-images` fills: opened (again), looked over, and finished.

unfinished   journal/ has a line for each shard that is on disk; no manifest.json, so readers refuse it
finished     manifest.json and errors.jsonl, in the order of the shards, then DONE; no journal/
"""

import collections
import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lavit_core.data import Record
from lavit_core.data_plan import DataPlan
from lavit_core.files import file_sha256
from lavit_core.image_batch import TOO_SMALL
from lavit_core.image_check import last_change, others_than
from lavit_core.image_warnings import warning_lines
from lavit_core.json_lines import read_json_lines, write_json_lines
from lavit_core.progress import note
from lavit_core.rundir import Run
from lavit_core.token_format import MANIFEST_FILE
from lavit_core.token_journal import (
    FinishedShard,
    JournalLine,
    errors_of,
    read_journal,
    remove_journal,
    rewrite_journal,
)
from lavit_core.tokens import Manifest, ShardEntry, read_manifest, write_manifest

from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.make_shards import shard_name
from lavit_tokenizer.selector import topk_tokens
from lavit_tokenizer.tokenizer import VisualTokenizer

ERRORS_FILE = "errors.jsonl"

STAT_THREADS = 8
"""Threads that ask for the times of files: storage on a network takes long to answer."""

MOST_WARNINGS = 5
"""Kinds of warnings about images that are shown at the end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenDirectory:
    """A token directory and the plan of its data: each block of the plan becomes a shard."""

    out: Path
    plan: DataPlan

    @property
    def num_shards(self) -> int:
        """Number of shards when it is finished."""
        return self.plan.num_blocks


def new_manifest(tokenizer: VisualTokenizer, config: TokenizeConfig, seed: int) -> Manifest:
    """Return the manifest without its shards."""
    shape = tokenizer.config
    selection: dict[str, Any] = {"policy": config.selection}
    if config.selection == "sample":
        selection["seed"] = seed
    if config.selection == "topk":
        selection["tokens"] = topk_tokens(shape, config.tokens)
    if config.selection == "threshold":
        selection["keep_threshold"] = shape.keep_threshold
        if shape.least_share:
            selection["least_share"] = shape.least_share
    return Manifest(
        tokenizer_digest=tokenizer.loaded.digest,
        codebook_size=shape.codebook_size,
        grid=shape.grid,
        preprocessing=shape.preprocessing.model_dump(mode="json"),
        selection=selection,
        feature_dim=shape.feature_dim if config.features else None,
        shards=(),
    )


def is_whole(directory: TokenDirectory) -> bool:
    """Return whether the manifest has every shard, and each has its size.

    By size alone: a finished directory answers at once, `lavit tokens verify` reads every byte.
    """
    shards = read_manifest(directory.out).shards if (directory.out / MANIFEST_FILE).exists() else ()
    return len(shards) == directory.num_shards and all(_has_size(directory.out, entry) for entry in shards)


def finished_shards(
    directory: TokenDirectory, numbers: Iterable[int], *, check_digests: bool = False
) -> dict[int, JournalLine]:
    """Return the journal's lines of those shards that are on disk as the journal says."""
    known = read_journal(directory.out)
    found = {}
    for number in numbers:
        # A shard that was made again has several lines, of which the last one should fit.
        lines = [line for line in reversed(known.get(shard_name(number), [])) if _has_size(directory.out, line.entry)]
        if lines and (check_digests or len({line.entry.sha256 for line in lines}) > 1):
            digest = file_sha256(directory.out / lines[0].entry.file)
            lines = [line for line in lines if line.entry.sha256 == digest]
        if lines:
            found[number] = lines[0]
    return found


def replaced_images(directory: TokenDirectory, kept: Mapping[int, JournalLine]) -> list[int]:
    """Return the finished shards of which images were replaced since, though names and sizes are the same.

    Looked at are files that were changed after their shard was written; if they are, all images of the shard are read.
    """

    def replaced(number: int) -> bool:
        entry, records = kept[number].entry, directory.plan.read(number)
        if entry.images_sha256 is None or last_change(records) < os.stat(directory.out / entry.file).st_mtime_ns:
            return False
        failed = {row["key"] for row in kept[number].read().errors}
        return others_than(entry, [record for record in records if record.key not in failed])

    with ThreadPoolExecutor(STAT_THREADS) as pool:
        return [number for number, found in zip(kept, pool.map(replaced, kept), strict=True) if found]


def reopen_directory(run: Run, directory: TokenDirectory, *, without: Set[str] = frozenset()) -> None:
    """Turn the manifest of a directory back into its journal, `without` some shards; leave an unfinished one as it is.

    Directories of before there was a journal are taken over, finished or not.
    """
    out = directory.out
    has_manifest, journal = (out / MANIFEST_FILE).exists(), read_journal(out)
    if without or (has_manifest and (run.done or not journal)):
        rewrite_journal(out, _shards_but(directory, without, from_manifest=has_manifest))
    if run.done:
        run.reopen()
    # The journal says the same, and readers are to refuse what is not finished.
    for name in (MANIFEST_FILE, ERRORS_FILE):
        (out / name).unlink(missing_ok=True)


def _shards_but(directory: TokenDirectory, without: Set[str], *, from_manifest: bool) -> Iterator[FinishedShard]:
    if not from_manifest:
        for line in finished_shards(directory, range(directory.num_shards)).values():
            if line.entry.file not in without:
                yield line.read()
        return
    errors = {shard_name(number): rows for number, rows in _recorded_errors(directory)}
    for entry in read_manifest(directory.out).shards:
        if entry.file not in without:
            yield FinishedShard(entry=entry, errors=errors.get(entry.file, ()))


def _recorded_errors(directory: TokenDirectory) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield (shard, its rows) of errors.jsonl, or of the journal where the directory is unfinished."""
    if not (directory.out / MANIFEST_FILE).exists():
        for number, line in finished_shards(directory, range(directory.num_shards)).items():
            yield number, [dict(row) for row in line.read().errors]
        return
    rows = {row["key"]: row for row in read_json_lines(directory.out / ERRORS_FILE)}
    for number in range(directory.num_shards) if rows else ():
        yield number, [rows[record.key] for record in directory.plan.read(number) if record.key in rows]


def failed_images(directory: TokenDirectory) -> Iterator[tuple[int, list[Record]]]:
    """Yield (shard, its records that could not be read) of each shard that has any."""
    for number, rows in _recorded_errors(directory):
        failed = {row["key"] for row in rows}
        if failed:
            yield number, [record for record in directory.plan.read(number) if record.key in failed]


def failed_sizes(out: Path) -> dict[str, int]:
    """Return the size in bytes that each file had which could not be read, by key, of a directory finished or not."""
    if (out / MANIFEST_FILE).exists():
        rows: Iterable[Mapping[str, Any]] = read_json_lines(out / ERRORS_FILE)
    else:
        rows = errors_of(line for lines in read_journal(out).values() for line in lines)
    return {row["key"]: row["bytes"] for row in rows if "bytes" in row}


def finish_directory(
    run: Run,
    manifest: Manifest,
    shards: Mapping[int, JournalLine],
    *,
    timing: Mapping[str, float],
    quiet: bool,
) -> dict[str, Any]:
    """Write errors.jsonl, manifest.json and DONE of a directory whose `shards` are all there; return the summary."""
    out = run.path
    lines = [line for _, line in sorted(shards.items())]
    kinds: collections.Counter[bool] = collections.Counter()
    warned: collections.Counter[str] = collections.Counter()
    for line in lines:
        shard = line.read()
        kinds.update(row.get("kind") == TOO_SMALL for row in shard.errors)
        warned.update(shard.warnings)
    write_json_lines(out / ERRORS_FILE, errors_of(lines))
    entries = tuple(line.entry for line in lines)
    write_manifest(out, manifest.model_copy(update={"shards": entries}))
    codes, images = sum(entry.codes for entry in entries), sum(entry.samples for entry in entries)
    summary = {
        "images": images,
        "codes": codes,
        "codes_per_image": codes / max(1, images),
        "errors": kinds[False],
        "too_small": kinds[True],
        "image_warnings": warned.total(),
        "shards": len(entries),
        **timing,
    }
    for text in warning_lines(warned)[:MOST_WARNINGS]:
        note(f"images with a warning, {text}", quiet=quiet)
    run.finish(summary)
    close_directory(run)
    return summary


def close_directory(run: Run) -> None:
    """Remove what a finished directory does not need."""
    remove_journal(run.path)
    with contextlib.suppress(OSError):
        run.checkpoints.rmdir()


def _has_size(out: Path, entry: ShardEntry) -> bool:
    file = out / entry.file
    return file.is_file() and file.stat().st_size == entry.bytes

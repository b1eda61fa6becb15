"""Token directories as parquet or jsonl, one row an image, for tools that read tables: `lavit tokens export`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lavit_core.errors import UsageError
from lavit_core.files import atomic_file, check_out_file
from lavit_core.token_reader import TokenReader, open_tokens

FORMATS = ("parquet", "jsonl")

_BATCH = 4096


def format_of(out: Path, to: str | None) -> str:
    """Return `to`, or else the format that the file's suffix names. Raises UsageError if they differ or name none."""
    by_name = out.suffix.removeprefix(".").lower()
    if to is not None and by_name in FORMATS and by_name != to:
        raise UsageError(f"--out {out}: ends in .{by_name}, but --to is {to}; leave one out")
    if to is None and by_name not in FORMATS:
        raise UsageError(f"--out {out}: expected a name that ends in .parquet or .jsonl, or --to")
    return to or by_name


def export_tokens(folder: Path, to: str, out: Path) -> int:
    """Write one row an image (key, codes, patches, captions) and return how many; `out` appears whole or not at all.

    `patches` are the kept patches' raster indices, in the order of `codes`. Raises UsageError for another format or
    if pyarrow is missing, InputError if `out` can't be written.
    """
    if to not in FORMATS:
        raise UsageError(f"--to {to}: expected parquet or jsonl")
    check_out_file(out)
    reader = open_tokens(folder)
    with atomic_file(out) as temporary:
        if to == "jsonl":
            _write_jsonl(reader, temporary)
        else:
            _write_parquet(reader, temporary)
    return len(reader)


def _batches(reader: TokenReader) -> Iterator[dict[str, list[Any]]]:
    for start in range(0, len(reader), _BATCH):
        indices = np.arange(start, min(start + _BATCH, len(reader)))
        codes, counts = reader.codes(indices)
        masks = reader.keep_masks(indices)
        yield {
            "key": reader.keys(indices),
            "codes": [part.tolist() for part in np.split(codes, np.cumsum(counts)[:-1])],
            "patches": [np.flatnonzero(mask).tolist() for mask in masks],
            "captions": [list(texts) for texts in reader.texts(indices)],
        }


def _write_jsonl(reader: TokenReader, file: Path) -> None:
    with open(file, "w", encoding="utf-8") as handle:
        for batch in _batches(reader):
            for row in zip(*batch.values(), strict=True):
                handle.write(json.dumps(dict(zip(batch, row, strict=True)), ensure_ascii=False) + "\n")


def _write_parquet(reader: TokenReader, file: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError("--to parquet: pyarrow is not installed; pip install 'lavit-core[parquet]'") from None
    schema = pyarrow.schema(
        [
            ("key", pyarrow.string()),
            ("codes", pyarrow.list_(pyarrow.uint32())),
            ("patches", pyarrow.list_(pyarrow.uint32())),
            ("captions", pyarrow.list_(pyarrow.string())),
        ]
    )
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for batch in _batches(reader):
            writer.write_table(pyarrow.table(batch, schema=schema))

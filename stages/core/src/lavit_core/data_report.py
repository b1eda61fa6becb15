"""Counts, sizes and problems of a data set, for `lavit data inspect`."""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lavit_core.data import Data, Problem, Record, Source, find_images, open_data, scan_data, source_of
from lavit_core.duplicates import AHEAD, find_shared
from lavit_core.image_warnings import count_image_warnings, warning_lines
from lavit_core.images import MAX_PIXELS, ImageError, open_rgb
from lavit_core.progress import Progress

_DECODE_THREADS = 2

MOST_SHOWN = 20
"""Lines of a kind that a person is shown."""

REFUSED = ("missing", "duplicate_keys", "bad_lines", "bad_names")
"""Lists of an inspection that keep a data set from being opened."""

NOT_READ = (".heic", ".heif", ".jxl", ".jp2", ".psd", ".svg")
"""Image formats that are not read: such files are counted, so that nobody misses them later."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoded:
    """What decoding images found."""

    images: int
    sizes: collections.Counter[tuple[int, int]]
    """Width and height in pixels of those that can be read."""
    unreadable: list[dict[str, str]]
    """File, kind and reason of the others."""
    warned: collections.Counter[str]


def inspect_data(
    source: Path | Source,
    *,
    min_pixels: int = 1,
    max_pixels: int = MAX_PIXELS,
    against: Path | Source | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Read a data set whole, every image decoded; return counts, sizes and every problem.

    Images of fewer or more pixels are listed as unreadable; those that lie in the data set `against` too, as shared.
    Raises InputError if `source` is not a data set.
    """
    others = None if against is None else open_data(against).records
    data, problems = scan_data(source)
    decoded = decode_images(data.records, min_pixels=min_pixels, max_pixels=max_pixels, quiet=quiet)
    report = report_of(source, data, problems, decoded)
    if others is not None:
        shared = find_shared(data.records, others, quiet=quiet)
        report |= {"against": str(against), "shared": [{"file": key, "equal_to": other} for key, other in shared]}
    return report


def decode_images(
    records: Sequence[Record], *, min_pixels: int = 1, max_pixels: int = MAX_PIXELS, quiet: bool = False
) -> Decoded:
    """Decode images and count their sizes; those of fewer or more pixels are listed as unreadable."""
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    unreadable = []
    warned: collections.Counter[str] = collections.Counter()

    def look(record: Record) -> tuple[int, int] | dict[str, str]:
        try:
            return open_rgb(record.image, min_pixels=min_pixels, max_pixels=max_pixels).size
        except ImageError as error:
            reason = str(error).removeprefix(f"{record.image}: ")
            return {"file": record.key, "kind": error.kind, "reason": reason}

    with (
        count_image_warnings(warned),
        ThreadPoolExecutor(_DECODE_THREADS) as pool,
        Progress("inspect", len(records), unit="image", quiet=quiet) as bar,
    ):
        parts = (records[first : first + AHEAD] for first in range(0, len(records), AHEAD))
        for found in itertools.chain.from_iterable(pool.map(look, part) for part in parts):
            if isinstance(found, dict):
                unreadable.append(found)
            else:
                sizes[found] += 1
            bar.advance()
    return Decoded(images=len(records), sizes=sizes, unreadable=unreadable, warned=warned)


def report_of(source: Path | Source, data: Data, problems: Sequence[Problem], decoded: Decoded) -> dict[str, Any]:
    """Return counts, sizes and problems of a data set of which some or all images were decoded."""
    path = source_of(source).path
    captions = sum(len(record.captions) for record in data.records)
    return {
        "path": str(path),
        "layout": data.layout,
        "files": [os.path.relpath(file, path if path.is_dir() else path.parent) for file in data.files],
        "notes": list(data.notes),
        "images": len(data.records),
        "decoded": decoded.images,
        "captions": captions,
        "empty_captions": data.num_empty_captions,
        "without_captions": sum(not record.captions for record in data.records),
        "questions": len(data.questions),
        "question_kinds": dict(sorted(collections.Counter(question.kind or "" for question in data.questions).items())),
        "sizes": _summary(decoded.sizes),
        "unreadable": decoded.unreadable,
        "unreadable_kinds": dict(sorted(collections.Counter(row["kind"] for row in decoded.unreadable).items())),
        "image_warnings": dict(sorted(decoded.warned.items())),
        "missing": [problem.message for problem in problems if problem.kind == "missing"],
        "duplicate_keys": [problem.message for problem in problems if problem.kind == "duplicate"],
        "bad_lines": [problem.message for problem in problems if problem.kind == "line"],
        "bad_names": [problem.message for problem in problems if problem.kind == "name"],
        "unlisted_images": _unlisted(data),
        "not_read": _not_read(data),
        "digest": data.digest,
    }


def count_problems(report: dict[str, Any]) -> int:
    """Return the number of problems that keep a data set from being opened (unreadable images do not)."""
    return sum(len(report[name]) for name in REFUSED)


def _unlisted(data: Data) -> int:
    """Return the number of image files in the data folder that are no record of it."""
    listed = {record.key for record in data.records if isinstance(record.image, Path)}
    folders = {f"{name}/": root for name, root in data.roots.items()} or {"": data.root}
    if not listed:
        return 0
    return sum(before + key not in listed for before, root in folders.items() for key in find_images(root))


def _not_read(data: Data) -> dict[str, int]:
    """Return the number of files below the data folders in image formats that are not read, by suffix."""
    files = (file for root in data.roots.values() or [data.root] for file in root.rglob("*"))
    found = collections.Counter(file.suffix.lower() for file in files if file.suffix.lower() in NOT_READ)
    return dict(sorted(found.items()))


def _summary(sizes: collections.Counter[tuple[int, int]]) -> dict[str, Any]:
    """Return the smallest and largest width and height in pixels, how many sizes there are, and the commonest ones."""
    if not sizes:
        return {"distinct": 0, "common": []}
    widths, heights = [width for width, _ in sizes], [height for _, height in sizes]
    return {
        "distinct": len(sizes),
        "width": [min(widths), max(widths)],
        "height": [min(heights), max(heights)],
        "common": [{"width": w, "height": h, "images": count} for (w, h), count in sizes.most_common(5)],
    }


def report_lines(report: dict[str, Any]) -> list[str]:
    """Return an inspection as lines for a person."""
    empty = f"; {report['empty_captions']} empty ones are left out" if report["empty_captions"] else ""
    lists = f" ({', '.join(report['files'][:5])})" if report["files"] else ""
    unlisted = f" ({report['unlisted_images']} more in no list)" if report["unlisted_images"] else ""
    lines = [
        f"{report['path']}: layout {report['layout']}{lists}",
        *(f"           {line}" for line in report["notes"]),
        *_problem_lines(report),
        f"images     {report['images']}{unlisted}",
        f"captions   {report['captions']} ({report['without_captions']} images have none{empty})",
        f"questions  {report['questions']}",
    ]
    kinds = report["question_kinds"]
    widest = max((len(kind or "no kind") for kind in kinds), default=0)
    lines += [f"  {kind or 'no kind':<{widest}}  {count}" for kind, count in kinds.items()]
    sizes = report["sizes"]
    if sizes["distinct"]:
        (w0, w1), (h0, h1) = sizes["width"], sizes["height"]
        common = ", ".join(f"{s['width']}x{s['height']} ({s['images']})" for s in sizes["common"])
        lines.append(f"sizes      {sizes['distinct']} sizes, width {w0}..{w1}, height {h0}..{h1}; most often {common}")
    lines += [f"warning    {line}" for line in warning_lines(collections.Counter(report["image_warnings"]))[:5]]
    if report["not_read"]:
        left_out = ", ".join(f"{count} {suffix}" for suffix, count in report["not_read"].items())
        lines.append(f"not read   {left_out} files")
    if "shared" in report:
        shared = report["shared"]
        lines.append(f"shared     {len(shared)} images are in {report['against']} too, byte for byte")
        lines += [f"  {row['file']} is {row['equal_to']} there" for row in shared[:MOST_SHOWN]]
        if len(shared) > MOST_SHOWN:
            lines.append(f"  ... and {len(shared) - MOST_SHOWN} more (--json lists them)")
    return lines


def _problem_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong, the first of each kind."""
    wrong = problem_lists(report)
    if not wrong:
        yield "problems   none"
    for name, found in wrong.items():
        yield f"{name:<15}{len(found)}"
        yield from (f"  {line}" for line in found[:MOST_SHOWN])
        if len(found) > MOST_SHOWN:
            yield f"  ... and {len(found) - MOST_SHOWN} more (--json lists them)"


def problem_lists(report: dict[str, Any]) -> dict[str, list[str]]:
    """Return the problems of an inspection as lines, by kind, unreadable images first."""
    lists = {name.replace("_", " "): report[name] for name in ("unreadable", *REFUSED) if report[name]}
    return {
        name: [f"{one['file']}: {one['reason']}" if isinstance(one, dict) else one for one in found]
        for name, found in lists.items()
    }

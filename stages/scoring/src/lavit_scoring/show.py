"""Scores and the list of benchmarks as text for a terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lavit_scoring.catalogue import BENCHMARKS, find_file, find_folder
from lavit_scoring.errors import InputError

MOST_ROWS = 24
"""A table shows at most this many metrics; score.json contains all."""

OTHERS = (
    "flickr30k-retrieval and coco-retrieval: the files of flickr30k-caption and coco-caption",
    "coco-fid: captions_val2014.json and val2014/ for a model to draw, pytorch-fid's "
    "pt_inception-2015-12-05-6726825d.pth",
    "fid: a folder of drawn images, one of real images or the statistics that `lavit eval fid-stats` writes of it, and "
    "the same weights",
    "clip-score: a folder of drawn images with captions.jsonl, and a transformers directory of a CLIP",
    "magicbrush and ma5k: metrics beyond L1, L2 and SSIM need local weights, see `lavit eval magicbrush --help`",
    "tokenizer and rate-distortion: any folder of images, see `lavit eval tokenizer --help`",
    "shapes and probe: data made by this toolkit, see `lavit eval shapes --help`",
)
"""Benchmarks of lavit-evaluation that score images, not result files."""


def number(value: float | None) -> str:
    """Return a value with three decimals, a large one with one."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def interval(metric: Mapping[str, Any]) -> str:
    """Return the ends of a metric's interval; empty if it has none."""
    return "" if metric["low"] is None else f"{number(metric['low'])} - {number(metric['high'])}"


def show_result(result: Mapping[str, Any]) -> str:
    """Return what was scored, its metrics with intervals and counts, and what was left out."""
    items, protocol = result["items"], result["protocol"]
    lemmas = f", lemmas: {result['lemmatizer']}" if result["lemmatizer"] else ""
    lines = [f"{result['benchmark']}, protocol {protocol['name']} (version {protocol['version']}{lemmas})"]
    metrics = result["figures"]
    if not result["complete"]:
        metrics = result["partial"]["figures"]
        lines.append(
            f"PARTIAL: {items['scored']:,} of {items['expected']:,} items. Not a score of {result['benchmark']}."
        )
    rows = [[name, number(one["value"]), interval(one), f"{one['count']:,}"] for name, one in metrics.items()]
    lines += _table([["", "value", "95 %", "count"], *rows[:MOST_ROWS]])
    if len(rows) > MOST_ROWS:
        lines.append(f"and {len(rows) - MOST_ROWS} more (--json or --out shows them)")
    lines.append(f"a metric of 1 is: {result['unit']}")
    lines += [f"{name}: skipped: {reason}" for name, reason in result["skipped"].items()]
    lines += [f"{name.replace('_', ' ')}: {note}" for name, note in result["notes"].items() if note]
    if result["published"]:
        lines.append(f"for comparison, {result['published']['by']}: {result['published']['figures']}")
    return "\n".join(lines)


def list_rows(data: Path | None) -> list[dict[str, Any]]:
    """Return one row a benchmark: what it needs, and what was found under `data`. Raises InputError."""
    if data is not None and not data.is_dir():
        raise InputError(f"--data {data}: not a folder; give the one that contains the downloads")
    rows = []
    for benchmark in BENCHMARKS:
        needs = {"annotations": benchmark.annotations, "questions": benchmark.questions, "images": benchmark.images}
        files = {role: names for role, names in needs.items() if names}
        row: dict[str, Any] = {
            "benchmark": benchmark.name,
            "title": benchmark.title,
            "size": benchmark.size,
            "metric": benchmark.metric,
            "source": benchmark.source,
            "files": {role: list(names) for role, names in files.items()},
        }
        if data is not None:
            paths = {role: (find_folder if role == "images" else find_file)(data, n) for role, n in files.items()}
            row["found"] = {role: None if path is None else str(path) for role, path in paths.items()}
        rows.append(row)
    return rows


def show_list(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the benchmarks one after another."""
    lines = []
    for row in rows:
        lines.append(f"{row['benchmark']}  {row['title']}; {row['size']}; {row['metric']}; from {row['source']}")
        for role, names in row["files"].items():
            found = f"  -> {row['found'][role] or 'not found'}" if "found" in row else ""
            lines.append(f"    {role}: {' or '.join(names)}{found}")
    return "\n".join([*lines, *OTHERS])


def show_comparison(result: Mapping[str, Any]) -> str:
    """Return what keeps scores from being compared, which are partial, the metrics side by side, paired differences."""
    lines = [f"NOT COMPARABLE, {line}" for line in result["not_comparable"]]
    lines += [f"PARTIAL: {line}" for line in result["partial"]]
    lines += [f"made differently, {line}" for line in result["made_differently"]]
    lines += [f"[{index}] {run}" for index, run in enumerate(result["runs"], 1)]
    rows = [
        [name, *("-" if one is None else f"{number(one['value'])} {_ends(one)}".strip() for one in metrics)]
        for name, metrics in result["figures"].items()
    ]
    header = ["", *(f"[{index}]" for index in range(1, len(result["runs"]) + 1))]
    lines += _table([header, *rows[:MOST_ROWS]])
    if len(rows) > MOST_ROWS:
        lines.append(f"and {len(rows) - MOST_ROWS} more (--json shows them)")
    for name, differences in result["paired"].items():
        lines += [
            f"[{index}] - [1], item by item, {name}{_span(name)}: {one['value']:+.4f} {_ends(one)}, {one['count']:,}"
            for index, one in enumerate(differences, 2)
            if one is not None
        ]
    for published in map(json.loads, result["published"]):
        by = published["by"].removesuffix(", not measured here")
        lines.append(f"not measured here; {by}: {published['figures']}")
    return "\n".join(lines)


def _span(name: str) -> str:
    """Return the range of a metric of one item, in which its paired difference is given."""
    if name.endswith("_db"):
        return ""
    return " (0 to 10)" if name == "cider" else " (0 to 1)"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with aligned columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = widths
    return [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in rows
    ]


def _ends(metric: Mapping[str, Any]) -> str:
    return f"({interval(metric)})" if metric["low"] is not None else ""

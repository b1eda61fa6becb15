"""Scores and the list of benchmarks on a terminal."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_scoring.catalogue import BENCHMARKS, find_file, find_folder
from lavit_scoring.errors import InputError
from lavit_scoring.table import interval, number

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 24
"""A table shows at most this many figures; score.json has all."""


def show_result(result: dict[str, Any], console: "Console") -> None:
    """Print what was scored, its figures with intervals and counts, and what was left out."""
    items, protocol = result["items"], result["protocol"]
    lemmas = f", lemmas: {result['lemmatizer']}" if result["lemmatizer"] else ""
    console.print(
        f"{result['benchmark']}, protocol {protocol['name']} (version {protocol['version']}{lemmas})", style="bold"
    )
    figures = result["figures"]
    if not result["complete"]:
        figures = result["partial"]["figures"]
        console.print(
            f"PARTIAL: {items['scored']:,} of {items['expected']:,} items. Not a score of {result['benchmark']}.",
            style="bold red",
        )
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("", "value", "95 %", "count"):
        table.add_column(column, justify="left" if not column else "right")
    for name in list(figures)[:MOST_ROWS]:
        figure = figures[name]
        table.add_row(name, number(figure["value"]), interval(figure), f"{figure['count']:,}")
    console.print(table)
    if len(figures) > MOST_ROWS:
        console.print(f"and {len(figures) - MOST_ROWS} more (--json or --out shows them)")
    console.print(f"a figure of 1 is: {result['unit']}")
    lines = [f"{name}: skipped: {reason}" for name, reason in result["skipped"].items()]
    lines += [f"{name.replace('_', ' ')}: {said}" for name, said in result["notes"].items() if said]
    if result["published"]:
        lines.append(f"for comparison, {result['published']['by']}: {result['published']['figures']}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def list_rows(data: Path | None) -> list[dict[str, Any]]:
    """Return one row a benchmark: what it needs, and what was found under `data`. Raises InputError."""
    if data is not None and not data.is_dir():
        raise InputError(f"--data {data}: not a folder; give the one that holds the downloads")
    rows = []
    for one in BENCHMARKS:
        needs = {"annotations": one.annotations, "questions": one.questions, "images": one.images}
        row: dict[str, Any] = {
            "benchmark": one.name,
            "title": one.title,
            "size": one.size,
            "metric": one.metric,
            "source": one.source,
            "files": {role: list(names) for role, names in needs.items() if names},
        }
        if data is not None:
            row["found"] = {
                role: _text(find_folder(data, names) if role == "images" else find_file(data, names))
                for role, names in needs.items()
                if names
            }
        rows.append(row)
    return rows


def show_list(rows: list[dict[str, Any]], console: "Console") -> None:
    """Print the benchmarks one after another."""
    for row in rows:
        console.print(f"{row['benchmark']}", style="bold", end="")
        console.print(
            f"  {row['title']}; {row['size']}; {row['metric']}; from {row['source']}", highlight=False, soft_wrap=True
        )
        for role, names in row["files"].items():
            found = ""
            if "found" in row:
                found = f"  -> {row['found'][role]}" if row["found"][role] else "  -> not found"
            console.print(f"    {role}: {' or '.join(names)}{found}", highlight=False, soft_wrap=True)
    others = (
        "coco-fid: captions_val2014.json and val2014/ for a model, or a folder of drawn pictures and one of real ones; "
        "pytorch-fid's pt_inception-2015-12-05-6726825d.pth",
        "clip-score: a folder of drawn pictures with captions.jsonl, and a transformers directory of a CLIP",
        "magicbrush and ma5k: metrics beyond L1, L2 and SSIM need local weights, see `lavit eval magicbrush --help`",
        "shapes and probe: data made by this toolkit, see `lavit eval shapes --help`",
    )
    for line in others:
        console.print(line, highlight=False, soft_wrap=True)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def show_comparison(result: dict[str, Any], console: "Console") -> None:
    """Print what keeps scores from being compared, then the figures side by side, then paired differences."""

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    for line in result["not_comparable"]:
        say(f"NOT COMPARABLE, {line}", "bold red")
    for line in result["made_differently"]:
        say(f"made differently, {line}", "yellow")
    for index, run in enumerate(result["runs"], 1):
        say(f"[{index}] {run}")
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for index in range(len(result["runs"]) + 1):
        table.add_column(f"[{index}]".replace("[", r"\[") if index else "", justify="right" if index else "left")
    for name, figures in list(result["figures"].items())[:MOST_ROWS]:
        cells = ["-" if one is None else " ".join(filter(None, (number(one["value"]), _ends(one)))) for one in figures]
        table.add_row(name, *cells)
    console.print(table)
    if len(result["figures"]) > MOST_ROWS:
        say(f"and {len(result['figures']) - MOST_ROWS} more (--json shows them)")
    for name, differences in result["paired"].items():
        for index, one in enumerate(differences, 2):
            if one is not None:
                gap = f"{one['value']:+.4f} {_ends(one)}, {one['count']:,}"
                say(f"[{index}] - [1], item by item, {name} (0 to 1): {gap}")
    for line in result["published"]:
        published = json.loads(line)
        say(f"not measured here; {published['by'].removesuffix(', not measured here')}: {published['figures']}")


def _ends(figure: dict[str, Any]) -> str:
    return f"({interval(figure)})" if figure["low"] is not None else ""

"""The probes as one table on a terminal: stations down, what was asked across."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

WIDEST = 1000
"""Characters of a line at most, whatever the window's width."""


def show_probe(result: Mapping[str, Any], console: Console) -> None:
    """Print accuracy and 95 % interval of each station, chance and majority below, labels counted at the foot."""
    metrics, kinds = result["figures"], result["notes"]["classes"]
    columns = [(kind, part) for kind in kinds for part in _parts(metrics, kind)]
    table = Table(title="Linear probes: right, and 95 % interval", title_justify="left", title_style="bold", box=None)
    table.add_column("read at", no_wrap=True)
    for kind, part in columns:
        table.add_column(f"{kind}{f', {part}' if part else ''}", justify="right", no_wrap=True)
    for station, title in result["notes"]["stations"].items():
        table.add_row(title, *(_cell(metrics.get(_name(kind, station, part))) for kind, part in columns))
    table.add_section()
    table.add_row("majority value", *(_cell(metrics.get(_name(kind, "majority", part))) for kind, part in columns))
    table.add_row("chance", *(_short(metrics[f"probe.{kind}.chance"]["value"]) for kind, _ in columns))
    table.add_row("labels scored", *(f"{metrics[_name(kind, 'encoder', part)]['count']:,}" for kind, part in columns))
    table.add_row("labels fitted", *(f"{result['notes']['fit_labels'][kind]:,}" for kind, _ in columns))
    if columns:
        # A cell cut in two can't be read; a line too long for the window can.
        console.width = max(console.width, console.measure(table, options=console.options.update_width(WIDEST)).maximum)
        console.print(table)
        console.print()
    if inside := metrics.get("probe.kept_inside"):
        console.print(f"boxes with a kept patch inside: {_short(inside['value'])} of {inside['count']:,}")
    for name, reason in result["skipped"].items():
        console.print(f"{name}: not computed, {reason}")


def _parts(metrics: Mapping[str, Any], kind: str) -> list[str]:
    return [part for part in ("seen", "unseen") if _name(kind, "encoder", part) in metrics] or [""]


def _name(kind: str, station: str, part: str) -> str:
    return f"probe.{kind}.{station}" + (f".{part}" if part else "")


def _cell(metric: Mapping[str, Any] | None) -> str:
    return "-" if metric is None else f"{_short(metric['value'])} {_short(metric['low'])}-{_short(metric['high'])}"


def _short(share: float) -> str:
    """Return a share in three decimals without the zero before the point."""
    return f"{share:.3f}".removeprefix("0")

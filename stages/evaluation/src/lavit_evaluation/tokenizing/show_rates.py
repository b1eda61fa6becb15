"""Selections at equal numbers of tokens as one table on a terminal: rates down, selections across."""

from collections.abc import Mapping
from typing import Any

from lavit_scoring.show import number
from rich.console import Console
from rich.table import Table

from lavit_evaluation.tokenizing.rates import METHODS

COLUMNS = {"psnr_db": "PSNR in dB", "feature_error": "1 - cos"}


def show_rates(result: Mapping[str, Any], console: Console) -> None:
    """Print PSNR and feature error of each selection at each rate; nothing where no rates were asked for."""
    metrics, rates = result["figures"], result["settings"]["rates"]
    columns = [
        (method, name) for name in COLUMNS for method in METHODS if f"rate_{method}.{rates[0]}.{name}" in metrics
    ] if rates else []  # fmt: skip
    if not columns:
        return
    title = "Equal numbers of tokens, chosen in three ways"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("tokens", justify="right")
    for method, name in columns:
        table.add_column(f"{method}, {COLUMNS[name]}", justify="right")
    for rate in rates:
        cells = [number(metrics[f"rate_{method}.{rate}.{name}"]["value"]) for method, name in columns]
        table.add_row(str(rate), *cells)
    console.print(table)
    for method, meaning in METHODS.items():
        console.print(f"{method}: {meaning}")
    console.print()

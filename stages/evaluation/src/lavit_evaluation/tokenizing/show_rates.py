"""Selections at equal numbers of tokens as tables on a terminal: tokens down, selections across."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from lavit_evaluation.tokenizing.rates import METHODS, OWN

TITLES = {"psnr_db": "PSNR in dB", "ssim": "SSIM", "feature_error": "1 - cos of decoded features"}
DIGITS = {"psnr_db": 2, "ssim": 3, "feature_error": 3}


def show_rates(result: Mapping[str, Any], console: Console) -> None:
    """Print one table a metric: each selection at each number of tokens, and the learned one less each other."""
    metrics = result["figures"]
    rates = [*map(str, sorted(result["settings"]["tokens"])), OWN]
    others = [method for method in METHODS if method != "learned"]
    for name, title in TITLES.items():
        if f"learned.{OWN}.{name}" not in metrics:
            continue
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column in ("tokens", "bits", *METHODS, *(f"- {other}" for other in others)):
            table.add_column(column, justify="right")
        for rate in rates:
            tokens, bits = (metrics[f"learned.{rate}.{what}"]["value"] for what in ("tokens", "bits"))
            cells = [f"own: {tokens:.1f}" if rate == OWN else rate, f"{bits:.0f}"]
            cells += [f"{metrics[f'{method}.{rate}.{name}']['value']:.{DIGITS[name]}f}" for method in METHODS]
            cells += [_difference(metrics[f"learned_minus_{other}.{rate}.{name}"], DIGITS[name]) for other in others]
            table.add_row(*cells)
        console.print(table)
        console.print()
    for method, meaning in METHODS.items():
        console.print(f"{method}: {meaning}")
    console.print(f"{OWN}: the learned threshold as it was trained; the others get its mean, rounded")
    console.print("- topk, - random: learned less the other by image, ± half of the 95 % interval")
    for section, reason in result["skipped"].items():
        console.print(f"{section}: not computed, {reason}")


def _difference(metric: Mapping[str, Any], digits: int) -> str:
    half = "" if metric["low"] is None else f" ±{(metric['high'] - metric['low']) / 2:.{digits}f}"
    return f"{metric['value']:+.{digits}f}{half}"

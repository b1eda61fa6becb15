"""A score as a table on a terminal."""

from collections.abc import Mapping
from typing import Any

from lavit_scoring.show import interval, number
from rich.console import Console
from rich.table import Table

TITLES = {
    "questions": "Questions",
    "blind": "Questions, no-image baseline",
    "majority": "Questions, majority answer",
    "captions": "Captions",
    "real": "Real images, judged",
    "reconstruction": "Reconstructions",
    "generation": "Drawn from prompts",
    "random": "Drawn from random codes",
    "tokens": "Tokens",
    "selection": "Kept patches",
    "probe": "Linear probe",
    "corpus": "Token directory",
}
"""Title of each section, in the order in which a reader wants them."""


def show_score(result: Mapping[str, Any], console: Console) -> None:
    """Print one table a section: value, 95 % interval, count, and seen and unseen combinations beside them."""
    metrics = result["figures"]
    for section, title in TITLES.items():
        names = [name for name in metrics if name.split(".")[0] == section]
        whole = [name for name in names if not name.endswith((".seen", ".unseen"))]
        if not whole:
            continue
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        split = len(whole) < len(names)
        for column in ("", "value", "95 %", "count", *(("seen", "unseen") if split else ())):
            table.add_column(column, justify="left" if not column else "right")
        for name in whole:
            metric = metrics[name]
            cells = [number(metric["value"]), interval(metric), f"{metric['count']:,}"]
            if split:
                cells += [number(metrics.get(f"{name}.{group}", {}).get("value")) for group in ("seen", "unseen")]
            table.add_row(name.partition(".")[2].replace("kind.", "").replace("_", " "), *cells)
        console.print(table)
        console.print()
    for section, reason in result["skipped"].items():
        console.print(f"{section}: not computed, {reason}")

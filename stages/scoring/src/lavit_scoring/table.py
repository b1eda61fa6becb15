"""Numbers as tables show them."""

from collections.abc import Mapping
from typing import Any


def number(value: float | None) -> str:
    """Return a figure in three significant decimals, a large one in one."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def interval(figure: Mapping[str, Any]) -> str:
    """Return the ends of a figure's interval, or nothing when it has none."""
    return "" if figure["low"] is None else f"{number(figure['low'])} - {number(figure['high'])}"

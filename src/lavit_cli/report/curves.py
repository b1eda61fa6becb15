"""Curves and histograms as inline SVG: thin axes, one accent, the first and last values written out.

A curve may be drawn over another run's, which lies behind it in grey. Values appear under the pointer by CSS alone.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from lavit_core.rundir import TIMING_KEYS

WIDE, HIGH = 300, 150
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 30, 20
SMOOTH_FROM_POINTS = 40
MOST_POINTS = 400
"""More points than a chart has pixels only make the page heavy."""
MOST_VALUES = 60
"""Values of a curve that appear under the pointer: strips of five units, wide enough for a finger."""

NOT_CURVES = TIMING_KEYS | {"step", "phase", "epoch"}


Point = tuple[float, float, str]
"""Step, value and phase."""


def charts(
    rows: Sequence[Mapping[str, Any]], against: Sequence[Mapping[str, Any]] = (), *, values: bool = False
) -> list[str]:
    """Return one SVG for every metric of a metrics.jsonl: numbers as curves over steps, lists as the last histogram.

    The same metric of `against`, where it has one, lies behind a curve. With `values` a page whose style has `.value`
    shows them under the pointer.
    """
    names = dict.fromkeys(name for row in rows for name in row if name not in NOT_CURVES)
    drawn = []
    for name in names:
        numbers = metric_points(rows, name)
        lists = [row[name] for row in rows if isinstance(row.get(name), list) and row[name]]
        if len(numbers) > 1 and len({value for _, value, _ in numbers}) > 1:
            drawn.append(curve(name, thinned(numbers, MOST_POINTS), metric_points(against, name), values=values))
        elif lists:
            drawn.append(histogram(name, lists[-1]))
    return drawn


def metric_points(rows: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    """Return the finite values of one metric."""
    values = [(row["step"], row.get(name), str(row.get("phase", ""))) for row in rows]
    return [
        (step, float(value), phase)
        for step, value, phase in values
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def curve(name: str, points: Sequence[Point], behind: Sequence[Point] = (), *, values: bool = False) -> str:
    """Return a curve of (step, value, phase) over another one; a vertical line marks each change of phase."""
    steps, heights = [point[0] for point in points], [point[1] for point in points]
    place, (start, end), (low, high) = _placing([point[:2] for point in (*points, *behind)])
    smooth = len(points) >= SMOOTH_FROM_POINTS
    raw = " ".join(place(step, value) for step, value in zip(steps, heights, strict=True))
    parts = []
    if behind:
        other = " ".join(place(step, value) for step, value, _ in behind)
        parts.append(f'<polyline class="behind" points="{other}"/>')
    parts.append(f'<polyline class="{"raw" if smooth else "line"}" points="{raw}"/>')
    if smooth:
        soft = " ".join(place(step, value) for step, value in zip(steps, _smoothed(heights), strict=True))
        parts.append(f'<polyline class="line" points="{soft}"/>')
    for before, after in itertools.pairwise(points):
        if before[2] != after[2]:
            x = place(after[0], low).split(",")[0]
            parts.append(f'<line class="phase" x1="{x}" x2="{x}" y1="{TOP}" y2="{HIGH - BOTTOM}"/>')
            parts.append(f'<text class="note" x="{float(x) + 3:.1f}" y="{TOP + 8}">{escape(after[2])}</text>')
    if values:
        parts.append(_values(place, [point[:2] for point in thinned(points, MOST_VALUES)], "step "))
    ends = f"{short(low)} to {short(high)}"
    return _frame(name, short(heights[-1]), "".join(parts), f"step {round(start):,}", f"{round(end):,}", ends)


def lines(name: str, series: Mapping[str, Sequence[tuple[float, float]]], along: str, *, values: bool = False) -> str:
    """Return several lines of (x, y), the first in the accent and all with their names; `along` says what x is."""
    place, (start, end), (low, high) = _placing([point for points in series.values() for point in points])
    parts = []
    for index, (title, points) in enumerate(series.items()):
        path = " ".join(place(*point) for point in points)
        parts.append(f'<polyline class="{"behind" if index else "line"}" points="{path}"/>')
        # Names stand apart where lines run together: at the first line's end, the second's middle, the third's start.
        last = len(points) - 1
        x, y = place(*points[(last, last // 2, 0)[index % 3]]).split(",")
        side = ("end", "mid", "start")[index % 3]
        parts.append(f'<text class="note {side}" x="{x}" y="{float(y) - 4:.1f}">{escape(title)}</text>')
    first = next(iter(series.values()))
    if values:
        parts.append(_values(place, first, "", f" {along}"))
    ends = f"{short(low)} to {short(high)}"
    return _frame(name, short(first[-1][1]), "".join(parts), f"{short(start)} {along}", short(end), ends)


def histogram(name: str, heights: Sequence[float], labels: tuple[str, str, str] | None = None) -> str:
    """Return bars for the counts of bins 0, 1, 2, ...; `labels` stand below the first, the middle and the last one."""
    most = max(heights) or 1
    step = (WIDE - LEFT - RIGHT) / len(heights)
    bars = []
    for index, height in enumerate(heights):
        tall = height / most * (HIGH - TOP - BOTTOM)
        x, y = LEFT + index * step, HIGH - BOTTOM - tall
        bars.append(
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{max(step - 0.6, 0.4):.1f}" height="{tall:.1f}"/>'
        )
    first, middle, end = labels or ("bin 0", f"sum {short(sum(heights))}", str(len(heights) - 1))
    return _frame(name, "", "".join(bars), first, end, middle)


def short(value: float) -> str:
    """Return a number in at most four significant digits, large ones with separators."""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _placing(
    points: Sequence[tuple[float, float]],
) -> tuple[Callable[[float, float], str], tuple[float, float], tuple[float, float]]:
    """Return what places a point in a chart that holds all of `points`, and the ends of both axes."""
    (start, low), (end, high) = (tuple(choose(one) for one in zip(*points, strict=True)) for choose in (min, max))
    span, length = (high - low) or 1.0, (end - start) or 1

    def place(x: float, y: float) -> str:
        across = LEFT + (x - start) / length * (WIDE - LEFT - RIGHT)
        down = TOP + (high - y) / span * (HIGH - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    return place, (start, end), (low, high)


def _values(
    place: Callable[[float, float], str], points: Sequence[tuple[float, float]], before: str, after: str = ""
) -> str:
    """Return for each point a strip of the chart that, when the pointer is on it, shows the point and its value."""
    spots = [tuple(map(float, place(*point).split(","))) for point in points]
    middles = [(one[0] + other[0]) / 2 for one, other in itertools.pairwise(spots)]
    drawn = []
    for (x, y), (at, value), left, right in zip(spots, points, [LEFT, *middles], [*middles, WIDE - RIGHT], strict=True):
        said = escape(f"{before}{short(at)}{after}: {short(value)}")
        drawn.append(
            f'<g class="value"><rect x="{left:.1f}" y="{TOP}" width="{right - left:.1f}"'
            f' height="{HIGH - TOP - BOTTOM}"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/><text x="{WIDE - RIGHT}" y="{TOP}">{said}</text></g>'
        )
    return "".join(drawn)


def _frame(name: str, last: str, inside: str, first: str, end: str, middle: str) -> str:
    foot = HIGH - 5
    return (
        f'<svg class="chart" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(name)}">'
        f'<text class="name" x="{LEFT}" y="16">{escape(name.replace("_", " "))}</text>'
        f'<text class="last" x="{WIDE - RIGHT}" y="16">{last}</text>'
        f'<line class="axis" x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{HIGH - BOTTOM}" y2="{HIGH - BOTTOM}"/>{inside}'
        f'<text class="note" x="{LEFT}" y="{foot}">{first}</text>'
        f'<text class="note mid" x="{WIDE / 2}" y="{foot}">{middle}</text>'
        f'<text class="note end" x="{WIDE - RIGHT}" y="{foot}">{end}</text></svg>'
    )


def _smoothed(values: Sequence[float]) -> list[float]:
    """Centred mean over about a twenty-fifth of the curve: it does not lag behind a falling loss."""
    reach = max(1, len(values) // 50)
    windows = (values[max(0, place - reach) : place + reach + 1] for place in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def thinned(points: Sequence[Point], most: int) -> Sequence[Point]:
    """Return about `most` of the points at most, the last one among them."""
    if len(points) <= most:
        return points
    stride = -(-len(points) // most)
    return [*points[:-1:stride], points[-1]]

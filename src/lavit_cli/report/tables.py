"""Tables of the page: scores with counts and intervals, what each step cost, versions and settings."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lavit_cli.report.collect import Collected
from lavit_cli.report.curves import short


def score_tables(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return every figure of a score: a table a topic, topics with the same rows (model, blind, ...) side by side."""
    topics: dict[str, dict[str, dict[str, Any]]] = {}
    for name, figure in figures.items():
        path = name.split(".")
        column = path.pop() if path[-1] in ("seen", "unseen") and len(path) > 1 else "all"
        topics.setdefault(path[0], {}).setdefault(" · ".join(path[1:]) or path[0], {})[column] = figure
    return "".join(_family_table(family) for family in _families(topics))


Topic = Mapping[str, Mapping[str, Any]]


def _families(topics: Mapping[str, Topic]) -> list[dict[str, Topic]]:
    families: list[dict[str, Topic]] = []
    for name, rows in topics.items():
        for family in families:
            first = next(iter(family.values()))
            if 2 * len(first.keys() & rows.keys()) > max(len(first), len(rows)):
                family[name] = rows
                break
        else:
            families.append({name: rows})
    return families


def _family_table(family: Mapping[str, Topic]) -> str:
    """One row a criterion: each topic over everything, then the first topic on seen and unseen combinations."""
    columns = [(name, "all") for name in family]
    first = next(iter(family))
    columns += [(first, part) for part in ("seen", "unseen") if any(part in cells for cells in family[first].values())]
    head = "".join(f"<th>{escape(words(name) + ('' if part == 'all' else f', {part}'))}</th>" for name, part in columns)
    body = "".join(
        f"<tr><td>{escape(words(row))}</td>"
        + "".join(figure_cell(family[name].get(row, {}).get(part)) for name, part in columns)
        + "</tr>"
        for row in dict.fromkeys(row for rows in family.values() for row in rows)
    )
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{body}</table></div>'


def figure_cell(figure: Mapping[str, Any] | None) -> str:
    """Return a cell with the value, its 95 % interval and its count; a bar when it is a share."""
    if figure is None or figure["value"] is None:
        return '<td class="figure"></td>'
    value, low, high = figure["value"], figure.get("low"), figure.get("high")
    share = is_share(figure)
    shown = f"{value:.3f}" if share else short(value)
    between = f"{short_share(low)} to {short_share(high)}, " if low is not None and high is not None else ""
    bar = f'<i style="--v:{value:.4f}"></i>' if share else ""
    return f'<td class="figure">{shown} <small>{between}n={figure["count"]:,}</small>{bar}</td>'


def is_share(figure: Mapping[str, Any]) -> bool:
    """Tell whether a figure is a share of its cases: its interval, or without one its value, lies within [0, 1]."""
    low, high = figure.get("low"), figure.get("high")
    if low is None or high is None:
        return 0 < figure["value"] <= 1
    return low >= 0 and high <= 1


def short_share(value: float) -> str:
    """Return a share without its leading zero, other numbers in three digits."""
    return f"{value:.2f}".removeprefix("0") if 0 <= value < 1 else short(value)


def cost_table(costs: Sequence[Mapping[str, Any]], speeds: Mapping[str, str]) -> str:
    """Return what each step cost, with a total."""
    rows = "".join(
        f"<tr><td>{escape(cost['step'])}</td>{_numbers(cost)}<td>{escape(speeds.get(cost['step'], ''))}</td></tr>"
        for cost in costs
    )
    total = {
        "seconds": sum(cost["seconds"] for cost in costs),
        "cpu_seconds": sum(cost["cpu_seconds"] for cost in costs),
        "peak_memory_bytes": max((cost["peak_memory_bytes"] for cost in costs), default=0),
    }
    numbers = "".join(f'<th class="number">{title}</th>' for title in ("wall", "CPU", "peak memory"))
    head = f"<tr><th>step</th>{numbers}<th>speed</th></tr>"
    foot = f'<tr class="total"><td>all</td>{_numbers(total)}<td></td></tr>'
    return f'<div class="scroll"><table>{head}{rows}{foot}</table></div>'


def _numbers(cost: Mapping[str, Any]) -> str:
    values = (seconds(cost["seconds"]), seconds(cost["cpu_seconds"]), f"{cost['peak_memory_bytes'] / 1e9:.2f} GB")
    return "".join(f'<td class="number">{value}</td>' for value in values)


def seconds(value: float) -> str:
    """Return a duration a person reads: 12.3 s, 4 min 05 s."""
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {int(value % 60):02d} s"


def version_table(run: Collected) -> str:
    """Return the versions and the command line a run was made with."""
    rows = {**run.about.get("versions", {}), "git revision": run.about.get("git") or "none"}
    body = "".join(f"<tr><td>{escape(str(k))}</td><td><code>{escape(str(v))}</code></td></tr>" for k, v in rows.items())
    return f'<div class="scroll"><table>{body}</table></div>'


def words(name: str) -> str:
    """Return a key as words."""
    return name.replace("_", " ")

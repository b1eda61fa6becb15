"""Tables of scores: one per topic, topics with the same rows (model, blind, ...) side by side."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Metric: TypeAlias = Mapping[str, Any]
Topic: TypeAlias = Mapping[str, Mapping[str, Metric]]
"""Row -> column (all, seen, unseen) -> metric."""


def score_tables(metrics: Mapping[str, Metric]) -> list[dict[str, Any]]:
    """Return a table for each family of topics: its column titles, and rows of (title, metrics or None)."""
    topics: dict[str, dict[str, dict[str, Metric]]] = {}
    for name, metric in metrics.items():
        path = name.split(".")
        column = path.pop() if path[-1] in ("seen", "unseen") and len(path) > 1 else "all"
        topics.setdefault(path[0], {}).setdefault(" · ".join(path[1:]) or path[0], {})[column] = metric
    return [_table(family) for family in _families(topics)]


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


def _table(family: Mapping[str, Topic]) -> dict[str, Any]:
    """One row a criterion: each topic over everything, then the first topic on seen and unseen combinations."""
    columns = [(name, "all") for name in family]
    first = next(iter(family))
    columns += [(first, part) for part in ("seen", "unseen") if any(part in cells for cells in family[first].values())]
    titles = dict.fromkeys(title for rows in family.values() for title in rows)
    return {
        "columns": [name if part == "all" else f"{name}, {part}" for name, part in columns],
        "rows": [(title, [family[name].get(title, {}).get(part) for name, part in columns]) for title in titles],
    }


def is_share(metric: Metric) -> bool:
    """Tell whether a metric is a share of its cases: its interval, or without one its value, lies within [0, 1]."""
    low, high = metric.get("low"), metric.get("high")
    if low is None or high is None:
        return 0 < metric["value"] <= 1
    return low >= 0 and high <= 1

"""A score is a value with its count and its 95 % interval: Wilson's for proportions, the normal one for means."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One score as it is written to score.json."""

    value: float | None
    """The score itself; None when nothing was counted."""
    count: int
    """How many questions, captions, pictures or patches it rests on."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end of the 95 % interval."""


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion. Source: Wilson 1927; inside [0, 1] and honest at 0 and at 1."""
    if not 0 <= hits <= count or count == 0:
        raise ValueError(f"wilson: expected 0 <= hits <= count and count > 0, found {hits} of {count}")
    return _wilson_share(hits / count, count)


def _wilson_share(share: float, count: float) -> tuple[float, float]:
    z2 = Z95 * Z95
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    # At 0 and 1 the ends are exact; floating point leaves them 1e-17 outside.
    return (0.0 if share == 0 else centre - half), (1.0 if share == 1 else centre + half)


def proportion(hits: Iterable[bool]) -> Figure:
    """Return the share of True with Wilson's interval; independent trials are assumed."""
    outcomes = [bool(hit) for hit in hits]
    if not outcomes:
        return Figure(value=None, count=0, low=None, high=None)
    low, high = wilson(sum(outcomes), len(outcomes))
    return Figure(value=sum(outcomes) / len(outcomes), count=len(outcomes), low=low, high=high)


def mean(values: Iterable[float]) -> Figure:
    """Return the mean with its normal 95 % interval (a single value has an interval of width zero)."""
    sample = np.asarray(list(values), dtype=np.float64)
    if sample.size == 0:
        return Figure(value=None, count=0, low=None, high=None)
    half = Z95 * float(sample.std(ddof=1)) / math.sqrt(sample.size) if sample.size > 1 else 0.0
    value = float(sample.mean())
    return Figure(value=value, count=int(sample.size), low=value - half, high=value + half)


def ratio(hits: Iterable[int], counts: Iterable[int]) -> Figure:
    """Return sum(hits) / sum(counts) over clusters (pictures), with the normal interval of clustered data.

    Patches of one picture hang together, so their number must not narrow the interval. Source: ratio estimator,
    Cochran, Sampling Techniques, section 6.3.
    """
    hit, count = np.asarray(list(hits), dtype=np.float64), np.asarray(list(counts), dtype=np.float64)
    if count.sum() == 0:
        return Figure(value=None, count=0, low=None, high=None)
    value, clusters = float(hit.sum() / count.sum()), max(int((count > 0).sum()), 2)
    variance = float(((hit - value * count) ** 2).sum()) / count.sum() ** 2 * clusters / (clusters - 1)
    half = Z95 * math.sqrt(variance)
    return Figure(value=value, count=int(count.sum()), low=max(value - half, 0.0), high=min(value + half, 1.0))


def clustered_proportion(hits: Sequence[bool], clusters: Sequence[str]) -> Figure:
    """Return the share of True among trials that hang together in clusters (objects of one picture).

    Wilson's interval for as many independent trials as carry the same variance, and for no more than the clusters
    where every trial has the same outcome. Source: design effect, Kish, Survey Sampling, section 8.2.
    """
    if not hits:
        return Figure(value=None, count=0, low=None, high=None)
    by_cluster: dict[str, list[bool]] = {}
    for hit, cluster in zip(hits, clusters, strict=True):
        by_cluster.setdefault(cluster, []).append(bool(hit))
    right, count, groups = sum(map(bool, hits)), len(hits), len(by_cluster)
    share, effective = right / count, float(groups)
    if 0 < right < count and groups > 1:
        rests = [sum(some) - share * len(some) for some in by_cluster.values()]
        variance = sum(rest * rest for rest in rests) / count**2 * groups / (groups - 1)
        effective = min(float(count), share * (1 - share) / variance) if variance > 0 else float(groups)
    low, high = _wilson_share(share, max(effective, 1.0))
    return Figure(value=share, count=count, low=low, high=high)


def exact(value: float, count: int) -> Figure:
    """Return a figure that is no estimate of a mean (a perplexity, a standard deviation): no interval is claimed."""
    return Figure(value=float(value), count=count, low=None, high=None)


def by_combination(name: str, hits: Sequence[bool], combinations: Sequence[str]) -> dict[str, Figure]:
    """Return the figure `name` over everything, and `name.seen`, `name.unseen` where the data tells them apart."""
    figures = {name: proportion(hits)}
    for group in ("seen", "unseen"):
        mine = [hit for hit, combination in zip(hits, combinations, strict=True) if combination == group]
        if mine:
            figures[f"{name}.{group}"] = proportion(mine)
    return figures

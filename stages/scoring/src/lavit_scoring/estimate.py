"""A metric as a value with its 95 % interval: Wilson's for proportions, the normal one for means.

`bootstrap` has the intervals that the official benchmarks use.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval."""

    value: float | None
    """The metric itself; None if nothing was counted."""
    low: float | None
    """Lower end of the interval; None if no interval is claimed."""
    high: float | None
    """Upper end of the interval."""
    n: int
    """How many questions, captions, images or patches it rests on."""

    def as_json(self) -> dict[str, float | int | None]:
        """Return the entry of score.json."""
        return {"value": self.value, "count": self.n, "low": self.low, "high": self.high}


NOTHING_COUNTED = Estimate(None, None, None, 0)


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


def proportion(hits: Iterable[bool]) -> Estimate:
    """Return the share of True with Wilson's interval; independent trials are assumed."""
    outcomes = [bool(hit) for hit in hits]
    if not outcomes:
        return NOTHING_COUNTED
    low, high = wilson(sum(outcomes), len(outcomes))
    return Estimate(sum(outcomes) / len(outcomes), low, high, len(outcomes))


def mean(values: Iterable[float]) -> Estimate:
    """Return the mean with its normal 95 % interval (a single value has an interval of width zero)."""
    sample = np.asarray(list(values), dtype=np.float64)
    if sample.size == 0:
        return NOTHING_COUNTED
    half = Z95 * float(sample.std(ddof=1)) / math.sqrt(sample.size) if sample.size > 1 else 0.0
    value = float(sample.mean())
    return Estimate(value, value - half, value + half, int(sample.size))


def ratio(hits: Iterable[int], counts: Iterable[int]) -> Estimate:
    """Return sum(hits) / sum(counts) over clusters (images), with the normal interval of clustered data.

    Patches of one image are correlated, so their number must not narrow the interval. Source: ratio estimator,
    Cochran, Sampling Techniques, section 6.3.
    """
    hit, count = np.asarray(list(hits), dtype=np.float64), np.asarray(list(counts), dtype=np.float64)
    if count.sum() == 0:
        return NOTHING_COUNTED
    value, clusters = float(hit.sum() / count.sum()), max(int((count > 0).sum()), 2)
    variance = float(((hit - value * count) ** 2).sum()) / count.sum() ** 2 * clusters / (clusters - 1)
    half = Z95 * math.sqrt(variance)
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0), int(count.sum()))


def clustered_proportion(hits: Sequence[bool], clusters: Sequence[str]) -> Estimate:
    """Return the share of True among trials that are correlated within clusters (objects of one image).

    Wilson's interval for as many independent trials as carry the same variance, and for no more than the clusters
    where every trial has the same outcome. Source: design effect, Kish, Survey Sampling, section 8.2.
    """
    if not hits:
        return NOTHING_COUNTED
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
    return Estimate(share, low, high, count)


def exact(value: float, n: int) -> Estimate:
    """Return a metric without an interval: it describes the whole set (a perplexity, a standard deviation)."""
    return Estimate(float(value), None, None, n)


def by_combination(name: str, hits: Sequence[bool], combinations: Sequence[str]) -> dict[str, Estimate]:
    """Return the metric `name` over everything, and `name.seen`, `name.unseen` where the data tells them apart."""
    metrics = {name: proportion(hits)}
    for group in ("seen", "unseen"):
        mine = [hit for hit, combination in zip(hits, combinations, strict=True) if combination == group]
        if mine:
            metrics[f"{name}.{group}"] = proportion(mine)
    return metrics

"""95 % intervals by resampling images: questions about one image are correlated, so they are drawn together."""

import hashlib
from collections.abc import Hashable, Sequence

import numpy as np

from lavit_scoring.estimate import Estimate

RESAMPLES = 1000


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for the random stream named by `purpose`, the same one that lavit_core.seeds derives."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def resampled_sums(parts: np.ndarray, seed: int, purpose: str, resamples: int = RESAMPLES) -> np.ndarray:
    """Return the sums [resamples, D] of rows [N, D] drawn N times with replacement.

    Equal rows are drawn as one multinomial, which is the same distribution and a thousand times less work.
    """
    rows, counts = np.unique(parts, axis=0, return_counts=True)
    rng = np.random.default_rng(derive_seed(seed, "bootstrap", purpose))
    drawn = rng.multinomial(len(parts), counts / len(parts), size=resamples)
    return drawn @ rows


def ends(values: np.ndarray) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % percentiles of resampled values (those that are defined)."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def per_cluster(values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable]) -> np.ndarray:
    """Return (sum, count) of each cluster's values, float64 [clusters, 2]."""
    number: dict[Hashable, int] = {}
    index = np.fromiter((number.setdefault(one, len(number)) for one in clusters), dtype=np.int64, count=len(clusters))
    sums = np.bincount(index, weights=np.asarray(values, dtype=np.float64), minlength=len(number))
    # Sums of equal values differ in their last bits with their order; rounded, they are drawn as one.
    return np.stack([sums.round(9), np.bincount(index, minlength=len(number))], axis=1)


def interval_of_mean(
    values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable], seed: int, purpose: str
) -> tuple[float, float]:
    """Return the 95 % interval of a mean whose values come in clusters (the image each belongs to)."""
    sums = resampled_sums(per_cluster(values, clusters), seed, purpose)
    return ends(sums[:, 0] / sums[:, 1])


def bootstrap_mean(
    values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable], seed: int, name: str, value: float | None = None
) -> Estimate:
    """Return a mean with its interval over clusters; `value` replaces the mean if a reference program computed it."""
    low, high = interval_of_mean(values, clusters, seed, name)
    return Estimate(float(np.mean(values)) if value is None else value, low, high, len(values))


def percent(values: Sequence[float], clusters: Sequence[Hashable], seed: int, name: str) -> Estimate:
    """Return the mean of 0-to-1 scores as the servers print it: per cent, two decimals; interval over clusters."""
    low, high = interval_of_mean(values, clusters, seed, name)
    return Estimate(
        round(100 * float(sum(values)) / len(values), 2), round(100 * low, 2), round(100 * high, 2), len(values)
    )


def percent_by(
    name: str, values: Sequence[float], clusters: Sequence[Hashable], groups: Sequence[Hashable], seed: int
) -> dict[str, Estimate]:
    """Return `name.<group>` for every group, in alphabetical order."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(str(group), []).append(index)
    return {
        f"{name}.{group}": percent([values[i] for i in here], [clusters[i] for i in here], seed, f"{name}.{group}")
        for group, here in sorted(members.items())
    }

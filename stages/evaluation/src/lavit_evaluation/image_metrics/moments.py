"""Mean and covariance of features, collected part by part in float64 and merged without loss; plus the distance."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.errors import InputError
from lavit_core.files import canonical_json, write_bytes
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Count, mean [D] and scatter [D, D] (sum of outer products of deviations) of features."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance [D, D]."""
        return self.scatter / (self.count - 1)


def moments_of(features: np.ndarray) -> Moments:
    """Return the moments of features [N, D], N > 0."""
    wide = np.asarray(features, dtype=np.float64)
    mean = wide.mean(0)
    away = wide - mean
    return Moments(count=len(wide), mean=mean, scatter=away.T @ away)


def merge(one: Moments, other: Moments) -> Moments:
    """Return the moments of both parts together. Source: Chan, Golub and LeVeque 1979."""
    count = one.count + other.count
    step = other.mean - one.mean
    return Moments(
        count=count,
        mean=one.mean + step * (other.count / count),
        scatter=one.scatter + other.scatter + np.outer(step, step) * (one.count * other.count / count),
    )


def frechet_distance(one: Moments, other: Moments) -> float:
    """Return |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). Source: Heusel et al. 2017 (arXiv 1706.08500), eq. 6.

    The trace of the root is the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric: no
    general matrix root, nothing imaginary to drop.
    """
    values, vectors = np.linalg.eigh(one.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    inner = root @ other.covariance @ root
    cross = np.sqrt(np.linalg.eigvalsh((inner + inner.T) / 2).clip(min=0)).sum()
    gap = one.mean - other.mean
    return float(gap @ gap + np.trace(one.covariance) + np.trace(other.covariance) - 2 * cross)


def save_moments(file: Path, moments: Moments, metadata: dict[str, Any]) -> None:
    """Write moments as safetensors with what they are moments of."""
    tensors = {"mean": moments.mean, "scatter": moments.scatter, "count": np.array([moments.count], dtype=np.int64)}
    write_bytes(file, save(tensors, metadata={"about": canonical_json(metadata)}))


def load_moments(file: Path) -> tuple[Moments, dict[str, Any]]:
    """Return saved moments and what they are of; pytorch-fid's .npz (mu, sigma) is read too. Raises InputError."""
    if not file.is_file():
        raise InputError(f"{file}: file not found, expected statistics that `lavit eval fid-stats` wrote")
    if file.suffix == ".npz":
        return _load_npz(file)
    try:
        with safe_open(file, framework="np") as content:
            metadata = json.loads((content.metadata() or {})["about"])
            moments = Moments(
                count=int(content.get_tensor("count")[0]),
                mean=content.get_tensor("mean"),
                scatter=content.get_tensor("scatter"),
            )
    except (SafetensorError, KeyError, ValueError, OSError, RecursionError) as error:
        raise InputError(f"{file}: not statistics of `lavit eval fid-stats` ({' '.join(str(error).split())})") from None
    return moments, metadata


def _load_npz(file: Path) -> tuple[Moments, dict[str, Any]]:
    try:
        with np.load(file, allow_pickle=False) as content:
            mean, covariance = (np.asarray(content[name], dtype=np.float64) for name in ("mu", "sigma"))
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{file}: no mu and sigma in it ({' '.join(str(error).split())})") from None
    # Such files do not say how many images they are of: with n - 1 = 1 the scatter is the covariance itself.
    return Moments(count=2, mean=mean, scatter=covariance), {"preprocess": "not known", "count": "not known"}

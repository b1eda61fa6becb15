"""Frechet distance against the formula, and moments that are merged and stored."""

from pathlib import Path

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_evaluation.image_metrics.moments import frechet_distance, load_moments, merge, moments_of, save_moments
from safetensors.numpy import save_file


def features(count: int, width: int = 16, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width))
    return (rng.normal(size=(count, width)) @ mixing + shift).astype(np.float32)


def direct(one: np.ndarray, other: np.ndarray) -> float:
    """The formula as written: the root of S1 S2 by its (complex) eigenvalues."""
    m1, m2 = one.mean(0, dtype=np.float64), other.mean(0, dtype=np.float64)
    s1, s2 = np.cov(one.astype(np.float64), rowvar=False), np.cov(other.astype(np.float64), rowvar=False)
    root = np.sqrt(np.linalg.eigvals(s1 @ s2).astype(complex)).sum().real
    return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * root)


def test_frechet_distance_is_the_formula() -> None:
    one, other = features(500), features(400, shift=0.3, seed=1)
    found = frechet_distance(moments_of(one), moments_of(other))
    assert found == pytest.approx(direct(one, other), rel=1e-9)
    assert frechet_distance(moments_of(one), moments_of(one)) == pytest.approx(0, abs=1e-8)
    # Two normals of equal covariance: the squared distance of their means.
    assert frechet_distance(moments_of(one), moments_of(one + 2)) == pytest.approx(16 * 4, rel=1e-6)


def test_frechet_distance_is_that_of_a_matrix_root() -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="scipy is not installed: compared with the direct formula only")
    one, other = features(300), features(300, shift=0.5, seed=2)
    mine, theirs = moments_of(one), moments_of(other)
    root = linalg.sqrtm(mine.covariance @ theirs.covariance).real
    gap = mine.mean - theirs.mean
    expected = gap @ gap + np.trace(mine.covariance + theirs.covariance - 2 * root)
    assert frechet_distance(mine, theirs) == pytest.approx(expected, rel=1e-6)


def test_five_shards_are_one_pass(tmp_path: Path) -> None:
    # A mean far from zero is where sums of squares lose their digits.
    whole = features(1000, shift=1000.0).astype(np.float64)
    parts = [moments_of(part) for part in np.split(whole, [10, 11, 400, 990])]
    merged = parts[0]
    for part in parts[1:]:
        merged = merge(merged, part)
    once = moments_of(whole)
    assert merged.count == once.count == 1000
    np.testing.assert_allclose(merged.mean, once.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(whole, rowvar=False), rtol=1e-6, atol=1e-6)
    other = moments_of(features(500, shift=1000.2, seed=3))
    assert frechet_distance(merged, other) == pytest.approx(frechet_distance(once, other), abs=1e-6)
    save_moments(tmp_path / "m.safetensors", merged, {"size": 512})
    again, metadata = load_moments(tmp_path / "m.safetensors")
    assert metadata == {"size": 512}
    assert again.count == 1000
    assert np.array_equal(again.scatter, merged.scatter)


@pytest.mark.parametrize("about", ["{", "[" * 100_000])
def test_statistics_that_are_none_are_named(tmp_path, about):
    save_file({"count": np.array([1])}, tmp_path / "m.safetensors", metadata={"about": about})
    with pytest.raises(InputError, match=r"m.safetensors: not statistics of `lavit eval fid-stats`"):
        load_moments(tmp_path / "m.safetensors")

"""Multinomial logistic regression on frozen features: what a linear reader finds in them.

Letters: N labelled places, W feature width, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from lavit_core.seeds import derive_seed

L2_GRID = (1e-4, 1e-3, 1e-2, 1e-1)
"""Penalties that are tried, on features of mean 0 and deviation 1: wide features need more, and the choice is made on
images of the fitting part alone."""

VALIDATION_SHARE = 0.25
"""Share of the fitting images on which the penalty is chosen."""

MAX_ITERATIONS = 100


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """A fitted probe: scores are (x - mean) / scale @ weight + bias."""

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    """[W, C]"""
    bias: np.ndarray
    """[C]"""
    l2: float

    def predict(self, x_NW: np.ndarray) -> np.ndarray:
        """Return the most likely class of each row, int64 [N]."""
        return ((x_NW - self.mean) / self.scale @ self.weight + self.bias).argmax(1)


def fit_probe(x_NW: np.ndarray, y_N: np.ndarray, images: Sequence[str], *, num_classes: int, seed: int) -> LinearProbe:
    """Fit on every row; the penalty is the one of `L2_GRID` that does best on a quarter of the images, drawn by
    `seed`, when the other three are fitted (the larger of equals)."""
    names = sorted(set(images))
    order = np.random.default_rng(derive_seed(seed, "probe validation")).permutation(len(names))
    held = {names[index] for index in order[: max(1, round(VALIDATION_SHARE * len(names)))]}
    is_held = np.array([image in held for image in images])
    chosen = L2_GRID[-1]
    if 0 < is_held.sum() < len(is_held):
        rights = []
        for l2 in L2_GRID:
            probe = _fit(x_NW[~is_held], y_N[~is_held], num_classes, l2)
            rights.append((float((probe.predict(x_NW[is_held]) == y_N[is_held]).mean()), l2))
        chosen = max(rights)[1]
    return _fit(x_NW, y_N, num_classes, chosen)


def _fit(x_NW: np.ndarray, y_N: np.ndarray, num_classes: int, l2: float) -> LinearProbe:
    """Minimise mean cross-entropy + l2 / 2 |weight|^2 from zero with L-BFGS: convex, so there is one answer."""
    import torch

    mean, scale = x_NW.mean(0), x_NW.std(0)
    scale = np.where(scale > 1e-6 * max(float(scale.max()), 1e-12), scale, 1.0)  # a constant column stays a zero
    x = torch.from_numpy((x_NW - mean) / scale).double()
    y = torch.from_numpy(y_N).long()
    weight = torch.zeros(x.shape[1], num_classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=MAX_ITERATIONS, tolerance_grad=1e-5, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> "torch.Tensor":
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(x @ weight + bias, y) + l2 / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    return LinearProbe(mean=mean, scale=scale, weight=weight.detach().numpy(), bias=bias.detach().numpy(), l2=l2)

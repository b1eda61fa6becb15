"""Metrics of tokens that several benchmarks report: tokens an image, and use of the codebook."""

from collections.abc import Sequence

import numpy as np
from lavit_scoring import Estimate
from lavit_scoring.estimate import exact, mean


def count_metrics(counts: Sequence[int], grid: tuple[int, int]) -> dict[str, Estimate]:
    """Return mean, spread and range of the tokens an image, and the patches of a grid (rows, columns)."""
    return {
        "tokens.kept": mean(counts),
        "tokens.kept_sd": exact(float(np.std(counts)), len(counts)),
        "tokens.kept_min": exact(min(counts), len(counts)),
        "tokens.kept_max": exact(max(counts), len(counts)),
        "tokens.patches": exact(grid[0] * grid[1], len(counts)),
    }


def code_metrics(name: str, code_counts: np.ndarray) -> dict[str, Estimate]:
    """Return the share of the codebook in use and the perplexity of codes, from how often each occurs, [K].

    Source: perplexity is exp of the entropy in nats of the codes' frequencies.
    """
    total = int(code_counts.sum())
    shares = code_counts[code_counts > 0] / max(total, 1)
    return {
        f"{name}.code_usage": exact(float((code_counts > 0).mean()), total),
        f"{name}.perplexity": exact(float(np.exp(-(shares * np.log(shares)).sum())), total),
    }

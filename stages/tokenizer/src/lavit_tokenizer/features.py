"""Encoder features of the training images: computed once and kept in memory when they fit, live otherwise."""

import numpy as np
import torch
from lavit_trainkit.cached_rows import CachedRows
from lavit_trainkit.pixels import Pixels, normalise
from torch import Tensor

from lavit_tokenizer.tokenizer import VisualTokenizer

BATCH = 128
"""Images per forward pass of the frozen encoder when statistics are fitted."""


class FeatureSource:
    """Whitened features by image index. The tokenizer's whitening must be fitted before the cache is filled."""

    def __init__(
        self, tokenizer: VisualTokenizer, pixels: Pixels, *, cache_bytes: int, precision: str, quiet: bool
    ) -> None:
        self.tokenizer, self.pixels, self.precision = tokenizer, pixels, precision
        config = tokenizer.config
        self._rows = CachedRows(
            lambda indices: self.tokenizer.whiten(raw_features(self.tokenizer, self.pixels, indices, self.precision)),
            len(pixels),
            2 * config.num_patches * config.feature_dim,
            cache_bytes=cache_bytes,
            title="features",
            dtype=torch.bfloat16,
            quiet=quiet,
        )

    def batch(self, indices: np.ndarray) -> Tensor:
        """Return float32 features [B, P, D] on the tokenizer's device."""
        return self._rows.batch(indices).to(self.tokenizer.feature_mean.device).float()


@torch.no_grad()
def raw_features(tokenizer: VisualTokenizer, pixels: Pixels, indices: np.ndarray, precision: str) -> Tensor:
    """Return the encoder's features float32 [B, P, D] before whitening."""
    device = tokenizer.feature_mean.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        return tokenizer.encoder(normalise(pixels.batch(indices).to(device), tokenizer.config.preprocessing)).float()


def fit_statistics(tokenizer: VisualTokenizer, pixels: Pixels, indices: np.ndarray, precision: str) -> None:
    """Fit the tokenizer's whitening on the given images; raw features need none."""
    if tokenizer.config.whiten_power:
        parts = [indices[start : start + BATCH] for start in range(0, len(indices), BATCH)]
        tokenizer.fit_whitening(
            torch.cat([raw_features(tokenizer, pixels, part, precision).flatten(0, 1) for part in parts])
        )

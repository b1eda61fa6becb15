"""Images as tokens, on the CPU: what `LaVIT.encode` returns and `LaVIT.decode` takes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class ImageTokens:
    """B images as visual tokens. Letters: P patches of an image, T tokens of all images, D feature width."""

    codes: list[np.ndarray]
    """Codebook indices int64 [n] of each image, in raster order of the kept patches."""
    counts: np.ndarray
    """int64 [B]: number of codes of each image."""
    keep_mask: np.ndarray
    """bool [B, P]: which patches were kept, in raster order."""
    features: np.ndarray
    """float32 [T, D]: merged features of the kept patches before quantisation, one image after another."""

    def __len__(self) -> int:
        return len(self.codes)

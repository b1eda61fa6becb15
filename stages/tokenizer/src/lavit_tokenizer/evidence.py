"""What a patch shows by itself, before any attention: all that a kept patch may tell in phases of `evidence: own`.

Attention puts the whole scene into every encoder feature. Where a scene is simple, a decoder reads all of it from any
patch, and a selector that learns by reconstruction has no reason to keep the patches that show the objects.

Letters: B images, P patches, R width of the encoder's own rows, D feature width.
"""

import numpy as np
import torch
from lavit_trainkit.distributed import broadcast_from_main
from lavit_trainkit.pixels import Pixels, normalise
from torch import Tensor

from lavit_tokenizer.features import BATCH
from lavit_tokenizer.tokenizer import VisualTokenizer

HALF_WHITENING = 0.25
"""Power of the eigenvalues that principal components are divided by, as in `model.whiten_power: 0.25`."""


class OwnRows:
    """Each patch's row of `Encoder.own_rows` by image index, as half-whitened principal components of width D.

    The components are fitted on the given images when a run starts or resumes; nothing of them is stored or exported.
    The encoder computes the rows in `precision` (fp32, bf16), as it does the features.
    """

    def __init__(self, tokenizer: VisualTokenizer, pixels: Pixels, indices: np.ndarray, precision: str) -> None:
        self._tokenizer, self._pixels, self._precision = tokenizer, pixels, precision
        mean, covariance = self._moments(indices)
        matrix = components(covariance, tokenizer.config.feature_dim)
        self._mean, self._matrix = mean.float(), matrix.float()
        broadcast_from_main((self._mean, self._matrix))

    @torch.no_grad()
    def batch(self, indices: np.ndarray) -> Tensor:
        """Return float32 rows [B, P, D] on the tokenizer's device, of mean 0 and mean square 1."""
        return (self._rows(indices) - self._mean) @ self._matrix

    def _rows(self, indices: np.ndarray) -> Tensor:
        pixels_u8 = self._pixels.batch(indices).to(self._tokenizer.feature_mean.device)
        pixels = normalise(pixels_u8, self._tokenizer.config.preprocessing)
        with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=self._precision == "bf16"):
            return self._tokenizer.encoder.own_rows(pixels).float()

    @torch.no_grad()
    def _moments(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return mean [R] and covariance [R, R] of the rows of the given images, float64."""
        count, total, products = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for start in range(0, len(indices), BATCH):
            rows = self._rows(indices[start : start + BATCH]).flatten(0, 1).double()
            count, total, products = count + len(rows), total + rows.sum(dim=0), products + rows.T @ rows
        mean = total / count
        return mean, products / count - mean[:, None] * mean


def components(covariance_RR: Tensor, width: int) -> Tensor:
    """Return the matrix [R, D] from centred rows to their half-whitened principal components, the largest first.

    Projected rows have a mean square of 1 over all D columns; where R is below D, the last columns are zero.
    """
    values, vectors = torch.linalg.eigh(covariance_RR)
    values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
    # The sign of an eigenvector is the library's choice; a run that resumes elsewhere must go on with the same one.
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    values = values.clamp_min(float(values.max()) * 1e-6)
    matrix = vectors * largest.sign() * values**-HALF_WHITENING
    matrix = matrix * (width / values.pow(1 - 2 * HALF_WHITENING).sum()).sqrt()
    padding = covariance_RR.new_zeros(len(covariance_RR), width - matrix.shape[1])
    return torch.cat([matrix, padding], dim=1)

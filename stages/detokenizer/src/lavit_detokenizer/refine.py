"""Convolutions on the pixel grid, after the UNet: they draw edges, and see across the borders of the UNet's squares.

Letters: B images, C = 3 unshuffle^2 channels, H = W = side of the UNet's grid, K channels of a pixel.
Source: sub-pixel convolution, arXiv 1609.05158, on which 3x3 convolutions follow.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Refiner(nn.Module):
    """Adds to the UNet's prediction what a few 3x3 convolutions make of it; the untrained one adds nothing."""

    def __init__(self, channels: int, *, layers: int, unshuffle: int) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        # A square is a linear map of the UNet's last channels: an edge that may lie anywhere needs more than that.
        self.expand = nn.Conv2d(3 * unshuffle**2, channels * unshuffle**2, 1)
        last = nn.Conv2d(channels, 3, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        inner = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(layers - 1))
        self.convs = nn.ModuleList([*inner, last])

    def forward(self, predicted_BCHW: Tensor) -> Tensor:
        """Return the refined prediction [B, C, H, W]."""
        pixels_BKhw = F.pixel_shuffle(self.expand(predicted_BCHW), self.unshuffle)
        # So few channels are convolved in two thirds of the time on CPUs if those of a pixel lie side by side.
        pixels_BKhw = pixels_BKhw.contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            pixels_BKhw = conv(F.silu(pixels_BKhw))
        return predicted_BCHW + F.pixel_unshuffle(pixels_BKhw, self.unshuffle)

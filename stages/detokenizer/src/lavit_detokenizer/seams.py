"""Seams of images that are drawn square by square, smoothed: the deblocking filter of video codecs.

Letters: B images, h, w = sides in pixels. Source: the normal filter of H.264/AVC's deblocking (List et al., IEEE TCSVT
13(7), 2003), of one strength, on the two pixels beside a border.
"""

import torch
from torch import Tensor

STEP = 4
"""A seam is at most this many times as high as what both of its sides may change by."""


def smooth_seams(pixels_B3hw: Tensor, side: int, levels: float) -> Tensor:
    """Return float images [B, 3, h, w] in [-1, 1] with the seams between squares of `side` pixels smoothed.

    A step between two squares is a seam where both sides change by less than `levels` (of 255) from the border's pixel
    to the next one, and the step itself is less than four times as high. It becomes a ramp over the two pixels beside
    it. Anything else is an edge of what is drawn and stays.
    """
    most = levels / 127.5
    for dim in (-2, -1):
        rows = pixels_B3hw.movedim(dim, -1)
        first = torch.arange(side, rows.shape[-1], side, device=rows.device)
        before, last, next_, after = (rows[..., first + offset] for offset in (-2, -1, 0, 1))
        is_seam = ((before - last).abs() < most) & ((after - next_).abs() < most)
        is_seam &= (next_ - last).abs() < STEP * most
        shift = torch.where(is_seam, (4 * (next_ - last) + before - after) / 8, 0.0)
        rows = rows.index_add(-1, first - 1, shift).index_add(-1, first, -shift)
        pixels_B3hw = rows.movedim(-1, dim)
    return pixels_B3hw

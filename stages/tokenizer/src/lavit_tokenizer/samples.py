"""Sample images of a tokenizer in training: which patches it keeps, what the codes still tell, which codes are used."""

import numpy as np
import torch
import torch.nn.functional as F
from lavit_core.shown_images import dim_dropped, enlarge, histogram, in_grid
from lavit_trainkit.pixels import Pixels
from lavit_trainkit.samples import SHOWN, Sheets
from torch import Tensor

from lavit_tokenizer.selector import select_threshold
from lavit_tokenizer.tokenizer import VisualTokenizer

COUNTED = 256
"""Images whose codes are counted."""


def tokenizer_sheets(tokenizer: VisualTokenizer, pixels: Pixels, held: np.ndarray, quantised: bool) -> Sheets:
    """Return sheets of held-out images: `kept-patches`, and once the codebook is trained `code-usage`.

    kept-patches has a row an image: the image, its kept patches, and how well each patch's feature is decoded (white:
    cosine 1, black: 0 or less).
    """
    shown = pixels.batch(held[:SHOWN])
    keep_BP, vectors_TC, x_BPD = _kept(tokenizer, shown)
    if quantised:
        vectors_TC, _ = tokenizer.quantizer(vectors_TC)
    decoded_BPD = tokenizer.decode_vectors(vectors_TC, keep_BP.sum(dim=1))
    cosine_BP = F.cosine_similarity(decoded_BPD, x_BPD, dim=-1).clamp_min(0).cpu().numpy()
    grid = tokenizer.config.grid
    panels = []
    for image, keep, cosine in zip(shown.numpy(), keep_BP.cpu().numpy(), cosine_BP, strict=True):
        panels += [image, dim_dropped(image, keep, grid), _as_patches(cosine.reshape(grid), image.shape[0])]
    sheets = {"kept-patches": in_grid([enlarge(panel, 128) for panel in panels], columns=3)}
    if quantised:
        counts = torch.zeros(tokenizer.config.codebook_size, dtype=torch.int64)
        for start in range(0, min(len(held), COUNTED), 64):
            rows = held[start : min(start + 64, COUNTED)]
            codes_T = tokenizer.quantizer.codes(_kept(tokenizer, pixels.batch(rows))[1]).cpu()
            counts += torch.bincount(codes_T, minlength=len(counts))
        sheets["code-usage"] = histogram(counts.numpy())
    return sheets


def _kept(tokenizer: VisualTokenizer, pixels_u8: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return keep mask [B, P], code vectors [T, C] before quantisation and features [B, P, D], as `evaluate` does."""
    x_BPD = tokenizer.features(pixels_u8)
    keep_BP = select_threshold(tokenizer.selector(x_BPD), tokenizer.config.keep_threshold)
    return keep_BP, tokenizer.project(tokenizer.merger(x_BPD, keep_BP)), x_BPD


def _as_patches(values_HW: np.ndarray, side_px: int) -> np.ndarray:
    """Return values in [0, 1] of a grid of patches as a grey image uint8 [side_px, side_px, 3]."""
    rows, columns = (np.arange(side_px) * size // side_px for size in values_HW.shape)
    grey = (values_HW * 255).round().astype(np.uint8)[rows[:, None], columns[None, :]]
    return grey[..., None].repeat(3, axis=2)

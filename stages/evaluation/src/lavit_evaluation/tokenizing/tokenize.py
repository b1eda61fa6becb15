"""Images through a tokenizer, with what a report needs of each: the only file of this benchmark that runs networks.

Letters: B images, P patches, n tokens of an image.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from lavit_tokenizer.api import VisualTokenizer
    from torch import Tensor

JPEG_QUALITY = 75


@dataclass(frozen=True, kw_only=True)
class TokenizedImage:
    """One image after the tokenizer."""

    codes: np.ndarray
    """Codebook indices int64 [n]."""
    keep_mask: np.ndarray
    """Which patches were kept, bool [P] in raster order."""
    log_odds: np.ndarray
    """Logarithm of keep over drop probability of each patch, float32 [P]."""
    detail: np.ndarray
    """Standard deviation of each patch's pixels from its mean colour, float64 [P] on the [0, 1] scale."""
    errors: np.ndarray
    """1 - cosine between decoded and encoder feature of each patch, float32 [P]; [0] without a feature decoder."""
    jpeg_bytes: np.ndarray
    """Size of the image, as the encoder sees it, as a JPEG of quality 75; int64 scalar."""

    @property
    def keep_probability(self) -> np.ndarray:
        """Keep probability of each patch, float64 [P]."""
        return 1 / (1 + np.exp(-self.log_odds.astype(np.float64)))


def tokenize(tokenizer: "VisualTokenizer", pixels: np.ndarray, *, selection: str | None = None) -> list[TokenizedImage]:
    """Return uint8 images [B, px, px, 3] as tokens; without `selection` by the tokenizer's own."""
    import torch
    from lavit_tokenizer.api import patch_detail

    with torch.inference_mode():
        x_BPD, keep_BP = tokenizer.select(torch.from_numpy(pixels), selection=selection)
        log_keep_BP2 = tokenizer.selector(x_BPD)
    codes, errors = codes_and_errors(tokenizer, x_BPD, keep_BP)
    log_odds = (log_keep_BP2[..., 0] - log_keep_BP2[..., 1]).cpu().numpy()
    details = patch_detail(pixels, tokenizer.config.grid)
    parts = (codes, keep_BP.cpu().numpy(), log_odds, details, errors, map(jpeg_bytes, pixels))
    return [
        TokenizedImage(
            codes=code, keep_mask=keep, log_odds=odds, detail=detail, errors=error, jpeg_bytes=np.asarray(size)
        )
        for code, keep, odds, detail, error, size in zip(*parts, strict=True)
    ]


def tokenize_kept(
    tokenizer: "VisualTokenizer", pixels: np.ndarray, masks: Sequence[Mapping[str, np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """Return codes and mean feature error of images under other keep masks, `<name>.codes` and `<name>.error` of each.

    `masks` are bool [P] by name, the same names for every image. Without a feature decoder there are no errors.
    """
    import torch

    x_BPD = tokenizer.features(torch.from_numpy(pixels))
    rows: list[dict[str, np.ndarray]] = [{} for _ in pixels]
    for name in masks[0]:
        keep_BP = torch.from_numpy(np.stack([one[name] for one in masks])).to(x_BPD.device)
        for row, codes, errors in zip(rows, *codes_and_errors(tokenizer, x_BPD, keep_BP), strict=True):
            row[f"{name}.codes"] = codes
            if errors.size:
                row[f"{name}.error"] = errors.mean(dtype=np.float64)
    return rows


def codes_and_errors(
    tokenizer: "VisualTokenizer", x_BPD: "Tensor", keep_BP: "Tensor"
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the codes int64 [n] of each image, and 1 - cosine of every patch's decoded feature, float32 [B, P].

    Without a feature decoder the errors are [B, 0].
    """
    import torch
    from torch.nn.functional import cosine_similarity

    with torch.inference_mode():
        encoded = tokenizer.encode_kept(x_BPD, keep_BP)
        errors = x_BPD.new_zeros((len(x_BPD), 0))
        if tokenizer.config.decoder_layers:
            errors = 1 - cosine_similarity(tokenizer.decode_codes(encoded.codes, encoded.counts), x_BPD, dim=-1)
    ends = encoded.counts.cpu().numpy().cumsum()[:-1]
    return np.split(encoded.codes.cpu().numpy(), ends), errors.cpu().numpy()


def jpeg_bytes(pixels: np.ndarray) -> int:
    """Return the size in bytes of a uint8 image [h, w, 3] as a JPEG of quality 75, as Pillow writes it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.tell()

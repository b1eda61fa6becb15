"""Everything a tokenizer computes on the way from pixels to decoded features, for instruments that look inside.

Letters: B images, P patches, D feature width, T kept patches of all images, C code width.
"""

import dataclasses

import torch
from torch import Tensor

from lavit_tokenizer.quantizer import nearest
from lavit_tokenizer.tokenizer import VisualTokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trace:
    """The stations of one batch, in forward order; float32 but for the mask."""

    features: Tensor
    """What selector and merger read, [B, P, D] (whitened where the configuration says so)."""
    keep_mask: Tensor
    """Which patches were kept, bool [B, P]; rows T below are these, image by image in raster order."""
    merged: Tensor
    """Merged features [T, D]."""
    vectors: Tensor
    """Unit vectors before quantisation, [T, C]."""
    code_vectors: Tensor
    """The codebook rows that replaced them, [T, C]."""
    decoded_vectors: Tensor | None
    """Features decoded from the vectors before quantisation, [B, P, D]; None when there is no feature decoder."""
    decoded: Tensor | None
    """Features decoded from the codes, [B, P, D]."""


@torch.no_grad()
def trace(tokenizer: VisualTokenizer, pixels_u8: Tensor) -> Trace:
    """Return every station of uint8 pictures [B, px, px, 3] under the tokenizer's own selection."""
    x_BPD, keep_BP = tokenizer.select(pixels_u8)
    codebook, counts = tokenizer.quantizer.codebook, keep_BP.sum(dim=1)
    with tokenizer.autocast():
        merged = tokenizer.merge(x_BPD, keep_BP).float()
    vectors = tokenizer.project(merged)
    codes = nearest(vectors, codebook)
    decoded_vectors = decoded = None
    if tokenizer.config.decoder_layers:
        with tokenizer.autocast():
            decoded_vectors = tokenizer.decoder(vectors, counts).float()
        decoded = tokenizer.decode_codes(codes, counts)
    return Trace(
        features=x_BPD,
        keep_mask=keep_BP,
        merged=merged,
        vectors=vectors,
        code_vectors=codebook[codes],
        decoded_vectors=decoded_vectors,
        decoded=decoded,
    )

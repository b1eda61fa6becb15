"""Pixels and token files to images as a language model reads them: codes, continuous rows, or nothing."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from lavit_core.errors import UsageError
from lavit_core.tokens import TokenReader
from torch import Tensor

from lavit_pretrain.encoded_images import EncodedImages
from lavit_pretrain.language_model import LanguageModel

if TYPE_CHECKING:
    from lavit_tokenizer.api import VisualTokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selected:
    """B images as a live model's merger takes them: features float32 [B, P, D], keep masks bool [B, P]."""

    features_BPD: Tensor
    keep_BP: Tensor


def encode_images(llm: LanguageModel, tokenizer: "VisualTokenizer", pixels_u8: np.ndarray | Tensor) -> EncodedImages:
    """Return images uint8 [B, px, px, 3], resized to the tokenizer's size already, as the model reads them."""
    return merge_patches(llm, select_patches(llm.image_input, tokenizer, pixels_u8))


@torch.inference_mode()
def select_patches(
    image_input: str, tokenizer: "VisualTokenizer | None", pixels_u8: np.ndarray | Tensor
) -> EncodedImages | Selected:
    """Return images encoded by the tokenizer for a model of this `image_input`: the first half of `encode_images`.

    `none` needs no tokenizer.
    At the published size tokenizer and language model need not lie in memory together.
    """
    pixels = torch.as_tensor(np.asarray(pixels_u8))
    if image_input == "none":
        return EncodedImages(counts=np.zeros(len(pixels), np.int64))
    assert tokenizer is not None, f"image_input {image_input} without a tokenizer"
    if image_input == "live":
        features_BPD, keep_BP = tokenizer.select(pixels)
        return Selected(features_BPD=features_BPD, keep_BP=keep_BP)
    encoded = tokenizer.encode(pixels)
    counts = encoded.counts.cpu().numpy()
    if image_input == "codes":
        return EncodedImages(counts=counts, codes=encoded.codes.cpu().numpy())
    return EncodedImages(counts=counts, features=encoded.merged.float().cpu().numpy())


@torch.inference_mode()
def merge_patches(llm: LanguageModel, seen: EncodedImages | Selected) -> EncodedImages:
    """Return images as the model reads them, a live model's through its merger: the second half of `encode_images`."""
    if isinstance(seen, EncodedImages):
        return seen
    assert llm.merger is not None, "a merger's input given to a model without one"
    dtype = next(llm.merger.parameters()).dtype  # its own: a model loaded in bfloat16 keeps its merger in fp32
    merged_TD = llm.merger(seen.features_BPD.to(llm.device, dtype), seen.keep_BP.to(llm.device))
    counts = seen.keep_BP.sum(1).cpu().numpy().astype(np.int64)
    return EncodedImages(counts=counts, features=merged_TD.float().cpu().numpy())


def stored_images(llm: LanguageModel, reader: TokenReader, indices: np.ndarray) -> EncodedImages:
    """Return images from token files. Raises UsageError for a live model, whose own merger must encode them."""
    if llm.image_input == "live":
        raise UsageError("this model reads images live, through its own merger; give it images instead of token files")
    if llm.image_input == "none":
        return EncodedImages(counts=np.zeros(len(indices), np.int64))
    codes, counts = reader.codes(indices)
    if llm.image_input == "codes":
        return EncodedImages(counts=counts, codes=codes)
    return EncodedImages(counts=counts, features=reader.features(indices))

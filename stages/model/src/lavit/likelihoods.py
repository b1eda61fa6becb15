"""Likelihoods of texts after images and of codes after texts, by the parts that are held.

Letters: N pairs, I images, M texts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from lavit_core.errors import UsageError

from lavit.parts import Parts
from lavit.reading import read_images


def score_texts(
    parts: Parts, images: Sequence[Any], texts: Sequence[str], *, all_pairs: bool, batch_size: int
) -> np.ndarray:
    """Return log p(text | image): float64 [N] of image i and text i, or with `all_pairs` float64 [I, M].

    Raises UsageError for a model trained without images, or another number of texts than of images.
    """
    if not all_pairs and len(images) != len(texts):
        raise UsageError(f"{len(texts)} texts but {len(images)} images, expected as many, or all_pairs=True")
    with parts.using("llm"):
        from lavit_pretrain.api import caption_log_likelihoods, text_log_likelihoods
    read, llm = read_images(parts, images), parts.llm()
    if all_pairs:
        return np.stack(list(text_log_likelihoods(llm, read, texts, rows=batch_size)))
    return caption_log_likelihoods(llm, read, texts, rows=batch_size)


def score_codes(
    parts: Parts, texts: Sequence[str], codes: Sequence[np.ndarray], *, all_pairs: bool, batch_size: int
) -> np.ndarray:
    """Return log p(codes | text): float64 [N] of text i and codes i, or with `all_pairs` float64 [M, I].

    Raises UsageError without codes, or for another number of texts than of images' codes.
    """
    if not codes:
        raise UsageError("codes: found none, expected those of at least one image")
    if not all_pairs and len(codes) != len(texts):
        raise UsageError(f"{len(texts)} texts but codes of {len(codes)} images, expected as many, or all_pairs=True")
    with parts.using("llm"):
        from lavit_pretrain.api import code_log_likelihoods, paired_code_log_likelihoods
    llm = parts.llm()
    if all_pairs:
        return np.stack(list(code_log_likelihoods(llm, texts, codes, rows=batch_size)))
    return paired_code_log_likelihoods(llm, texts, codes, rows=batch_size)

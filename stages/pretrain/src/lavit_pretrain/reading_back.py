"""Log-likelihoods of texts after images of any size. Removed once the evaluation calls `LaVIT.score`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from lavit_core.seeds import epoch_batches

from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.likelihood import caption_log_likelihoods
from lavit_pretrain.prompts import square
from lavit_pretrain.reading import encode_images

if TYPE_CHECKING:
    from lavit_tokenizer.api import VisualTokenizer


def read_back(
    llm: LanguageModel, tokenizer: "VisualTokenizer", images: Sequence[np.ndarray], texts: Sequence[str]
) -> np.ndarray:
    """Return log p(text | image) float64 [N] of each image uint8 [h, w, 3] and its own text."""
    scores, image_px = np.empty(len(images)), tokenizer.config.preprocessing.image_px
    for rows in epoch_batches(len(images), 64):
        pixels = np.stack([square(image, image_px) for image in images[rows]])
        scores[rows] = caption_log_likelihoods(llm, encode_images(llm, tokenizer, pixels), texts[rows])
    return scores

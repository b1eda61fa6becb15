"""How well pictures say what they were drawn from: the model that wrote their codes reads them back.

Choosing among candidates needs no other model then. A language model that reads better than it writes (this one does: a
caption is a dozen tokens, a picture dozens of codes) finds its own misses.
Letters: N pictures, one text each; R of them at once, L longest row, V ids.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from lavit_core.errors import UsageError
from lavit_core.seeds import epoch_batches

from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.prompts import square
from lavit_pretrain.reading import ImageInput, encode_images, prompt_rows

if TYPE_CHECKING:
    from lavit_tokenizer.api import VisualTokenizer

BATCH_ROWS = 64
"""Pictures read at the same time."""


def read_back(
    llm: LanguageModel, tokenizer: "VisualTokenizer", pictures: Sequence[np.ndarray], texts: Sequence[str]
) -> np.ndarray:
    """Return log p(text | picture) float64 [N], end token included, of each picture uint8 [h, w, 3] and its own text.

    Raises UsageError for a model that was trained without pictures.
    """
    found = np.empty(len(pictures))
    image_px = tokenizer.config.preprocessing.image_px
    for some in epoch_batches(len(pictures), BATCH_ROWS):
        pixels = np.stack([square(picture, image_px) for picture in pictures[some]])
        found[some] = pairwise_log_likelihoods(llm, encode_images(llm, tokenizer, pixels), texts[some])
    return found


@torch.inference_mode()
def pairwise_log_likelihoods(llm: LanguageModel, images: ImageInput, texts: Sequence[str]) -> np.ndarray:
    """Return the sum of log p(token | image, tokens before) float64 [N] of text i and its end token after image i.

    For every text after every image there is `text_log_likelihoods`. Raises UsageError for a model without pictures.
    """
    if llm.image_input == "none":
        raise UsageError("this model was trained without pictures; reading one back needs a model that sees")
    ids = [np.append(llm.codec.encode(text), llm.codec.eos) for text in texts]
    rows = prompt_rows(llm, images, ids)
    # Padding on the right: nothing that is scored attends to it.
    padded_RLH = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    hidden_RLH = llm.decoder(inputs_embeds=padded_RLH).last_hidden_state
    sums = np.empty(len(ids))
    for place, (row, own) in enumerate(zip(rows, ids, strict=True)):
        # The hidden state before a token gives its probability.
        before_TH = hidden_RLH[place, len(row) - len(own) - 1 : len(row) - 1]
        logits_TV = (before_TH @ llm.head_VD.T).float()
        target_T = torch.from_numpy(own).to(logits_TV.device)
        sums[place] = float(-torch.nn.functional.cross_entropy(logits_TV, target_T, reduction="sum"))
    return sums

"""Initial code embeddings: random like any new row, or the projected mean feature of the code's patches.

Random rows have to be learned one by one, each from the few places where its code occurs, before anything can be
learned from them. The mean feature of the patches with a code, sent through the projector that reads images, already
contains its colour, part and place: codes that look alike start alike, and generated images start where read ones are.
Differs: the paper does not state it. Letters: K codes, D feature width, H hidden width, T codes of the images used.
"""

from typing import cast

import numpy as np
import torch
from lavit_core.progress import warn
from lavit_core.tokens import TokenReader
from torch import Tensor, nn

from lavit_pretrain.language_model import LanguageModel

MAX_IMAGES = 4096
"""Images whose features are averaged."""

SHARE = 0.9
"""Share of a row's variance that comes from features; the rest stays random and keeps equal means apart."""


@torch.no_grad()
def start_at_features(network: LanguageModel, reader: TokenReader) -> None:
    """Move the embeddings of all codes that occur in the first images to their projected mean features.

    Their spread stays that of the random rows, around zero; a code that does not occur keeps its row. A model that
    reads images as codes has no projector: a random one is used. If the token files have no features, all rows stay
    random, with a warning.
    """
    if reader.manifest.feature_dim is None:
        warn(
            f"{reader.folders[0]}: has no features for code embeddings to start at; they start at random, which takes "
            "more steps (`lavit tokenize-images --features` stores them)"
        )
        return
    mean_KD, seen_K = mean_features(reader, network.vocabulary.codebook_size)
    if int(seen_K.sum()) < 2:
        # One row has no spread to scale by: this tokenizer has collapsed.
        warn(f"{reader.folders[0]}: all images have one and the same code; code embeddings start at random")
        return
    projector = network.projector or nn.Linear(mean_KD.shape[1], network.head_VD.shape[1])
    rows_KH = projector(mean_KD.to(projector.weight))
    rows_KH = rows_KH - rows_KH[seen_K].mean(0)
    rows_KH /= rows_KH[seen_K].std()
    inputs_VH = cast(Tensor, network.llm.get_input_embeddings().weight)
    tied = inputs_VH is network.head_VD
    for table in (inputs_VH,) if tied else (inputs_VH, network.head_VD):
        own_KH = table[network.vocabulary.first_code :]
        moved_KH = SHARE**0.5 * own_KH.std() * rows_KH + (1 - SHARE) ** 0.5 * own_KH
        own_KH.copy_(torch.where(seen_K[:, None].to(own_KH.device), moved_KH, own_KH))


def mean_features(reader: TokenReader, codebook_size: int) -> tuple[Tensor, Tensor]:
    """Return the mean stored feature of each code float32 [K, D] over the first images, and which codes occur [K]."""
    images = np.arange(min(len(reader), MAX_IMAGES))
    codes_T = torch.from_numpy(reader.codes(images)[0])
    features_TD = torch.from_numpy(reader.features(images))
    sums_KD = torch.zeros(codebook_size, features_TD.shape[1]).index_add_(0, codes_T, features_TD)
    counts_K = torch.bincount(codes_T, minlength=codebook_size)
    return sums_KD / counts_K.clamp_min(1)[:, None], counts_K > 0

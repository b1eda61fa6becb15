"""Where the embedding rows of the codes start: drawn like any new row, or at what the codes stand for.

Drawn rows have to be learned one by one, each from the few places where its code occurs, before anything can be learned
from them. The mean feature of the patches that got a code, sent through the projector by which pictures are read,
already says its colour, part and place: codes that look alike start alike, and written pictures start where read ones
are. Differs from the paper, which does not say. Letters: K codes, D feature width, H hidden width, T codes of the
pictures looked at.
"""

from typing import cast

import numpy as np
import torch
from lavit_core.progress import warn
from lavit_core.tokens import TokenReader
from torch import Tensor, nn

from lavit_pretrain.language_model import LanguageModel

PICTURES = 4096
"""Pictures from whose features the means are made."""

SHARE = 0.9
"""Share of a row's variance that the features give; the rest stays as drawn and tells equal means apart."""


@torch.no_grad()
def start_at_features(network: LanguageModel, reader: TokenReader) -> None:
    """Move the rows of all codes that occur in the first pictures to their projected mean features.

    Their spread stays that of the rows as drawn, around zero; a code that does not occur keeps its row. A model that
    reads images as codes has no projector: one is drawn for this. Where the token files hold no features, all rows stay
    as drawn, and a warning says so.
    """
    if reader.manifest.feature_dim is None:
        warn(
            f"{reader.folders[0]}: holds no features for rows of codes to start at; they start as drawn, which takes "
            "more steps (`lavit tokenize-images --features` stores them)"
        )
        return
    mean_KD, seen_K = mean_features(reader, network.vocabulary.codebook_size)
    if int(seen_K.sum()) < 2:
        # One row has no spread to scale by: this tokenizer has collapsed.
        warn(f"{reader.folders[0]}: all pictures looked at have one and the same code; rows of codes start as drawn")
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
    """Return the mean stored feature of each code float32 [K, D] over the first pictures, and which codes occur [K]."""
    pictures = np.arange(min(len(reader), PICTURES))
    codes_T = torch.from_numpy(reader.codes(pictures)[0])
    features_TD = torch.from_numpy(reader.features(pictures))
    sums_KD = torch.zeros(codebook_size, features_TD.shape[1]).index_add_(0, codes_T, features_TD)
    counts_K = torch.bincount(codes_T, minlength=codebook_size)
    return sums_KD / counts_K.clamp_min(1)[:, None], counts_K > 0

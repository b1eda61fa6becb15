"""How much images lower the loss of the text after them, and captions the loss of the codes after them.

The loss with a document's own image is compared with the loss with another document's: a model whose answers cost as
little with another image does not use images. Measured without gradients on a batch of training documents; no
random draw is made. Letters: n tokens of a document.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from lavit_core.processes import num_processes
from lavit_trainkit.distributed import all_gather
from torch import Tensor

from lavit_pretrain.documents import Document
from lavit_pretrain.packing import PackedBatch, collate, share_batch
from lavit_pretrain.swapped_context import LOSS_INCREASES, can_swap, score_target, swap

if TYPE_CHECKING:
    from lavit_pretrain.language_model import LanguageModel

CHECK_STEPS = 100
"""Steps between checks, rounded up to a logged row: two forward passes in so many steps cost about 1 % of the time."""

EachLoss = Callable[["LanguageModel", PackedBatch], Tensor]
"""Cross-entropy of each scored position of a batch, [S]."""


def is_check(done: int, log_every: int) -> bool:
    """Return whether to measure after `done` steps: a function of the step, so that a resumed run does the same."""
    return done % (log_every * -(-CHECK_STEPS // log_every)) == 0


@torch.no_grad()
def measure_loss_increases(network: "LanguageModel", batch: PackedBatch, each_loss: EachLoss) -> dict[str, float]:
    """Return the mean loss increase when a document's image (or caption) is replaced by another document's.

    One metric for each kind of document that is at least twice in the batch, in nats a token; 0 if context is unused.
    """
    vocabulary = network.vocabulary
    fit = [document for document in batch.documents if can_swap(document, vocabulary)]
    kinds = [kind for kind in LOSS_INCREASES if sum(document.kind == kind for document in fit) > 1]
    own = [score_target(document, vocabulary) for document in fit if document.kind in kinds]
    if not own:
        return {}
    was_training = network.training
    network.eval()  # dropout would draw from the stream that training draws from
    losses = [_each(network, some, each_loss).cpu().numpy() for some in (own, swap(own, vocabulary))]
    network.train(was_training)
    kind_S = np.repeat([document.kind for document in own], [np.count_nonzero(document.weights) for document in own])
    return {
        LOSS_INCREASES[kind]: float((losses[1] - losses[0])[kind_S == kind].mean())
        for kind in kinds
        if (kind_S == kind).any()
    }


def _each(network: "LanguageModel", documents: Sequence[Document], each_loss: EachLoss) -> Tensor:
    """Return each scored position's loss; processes share the documents where there are enough of them."""
    batch = collate(documents)
    if len(documents) < num_processes():
        return each_loss(network, batch.to(network.device))
    return all_gather(each_loss(network, share_batch(batch).to(network.device)))

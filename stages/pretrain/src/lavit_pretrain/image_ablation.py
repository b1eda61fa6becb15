"""What a picture tells the text after it, and a caption the codes after it: the loss with its own and with another's.

A model whose answers cost as little with another document's picture has learned to answer blindly. Measured without
gradients on a batch of training documents; no random draw is made. Letters: n tokens of a document.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from lavit_core.processes import num_processes
from lavit_trainkit.distributed import all_gather
from torch import Tensor

from lavit_pretrain.documents import Document
from lavit_pretrain.ids import IdLayout
from lavit_pretrain.packing import PackedBatch, collate, share_batch

if TYPE_CHECKING:
    from lavit_pretrain.language_model import LanguageModel

CHECK_STEPS = 100
"""Steps between checks, rounded up to a logged row: two forward passes in so many steps cost about 1 % of the time."""

LOSS_INCREASES = {"questions": "answer_gain", "image_to_text": "caption_gain", "text_to_image": "prompt_gain"}
"""Kind of document -> the figure that is logged, in nats a token."""

EachLoss = Callable[["LanguageModel", PackedBatch], Tensor]
"""Cross-entropy of each scored position of a batch, [S]."""


def is_check(done: int, log_every: int) -> bool:
    """Tell whether gains are measured after `done` steps: a function of the step, so a resumed run does the same."""
    return done % (log_every * -(-CHECK_STEPS // log_every)) == 0


@torch.no_grad()
def measure_loss_increases(network: "LanguageModel", batch: PackedBatch, each_loss: EachLoss) -> dict[str, float]:
    """Return, for each kind of document that stands at least twice in a batch, the mean loss with another document's
    picture (or caption) less that with its own: 0 when what stands before the scored tokens tells nothing about them.
    """
    layout = network.layout
    fit = [document for document in batch.documents if _can_swap(document, layout)]
    kinds = [kind for kind in LOSS_INCREASES if sum(document.kind == kind for document in fit) > 1]
    own = [_scored(document, layout) for document in fit if document.kind in kinds]
    if not own:
        return {}
    was_training = network.training
    network.eval()  # dropout would draw from the stream that training draws from
    losses = [_each(network, some, each_loss).cpu().numpy() for some in (own, swap(own, layout))]
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


def swap(documents: Sequence[Document], layout: IdLayout) -> list[Document]:
    """Return the documents with the picture, or the caption, of the next one of their kind; scored tokens stay."""
    swapped = list(documents)
    for kind in LOSS_INCREASES:
        places = [place for place, document in enumerate(documents) if document.kind == kind]
        for place, next_place in zip(places, places[1:] + places[:1], strict=True):
            kept, other = documents[place], documents[next_place]
            head, tail = _boundary(other, layout), _boundary(kept, layout)
            swapped[place] = dataclasses.replace(
                other,  # with its features, and where they stand
                ids=np.concatenate([other.ids[:head], kept.ids[tail:]]),
                weights=np.concatenate([np.zeros(head, np.float32), kept.weights[tail:]]),
            )
    return swapped


def _can_swap(document: Document, layout: IdLayout) -> bool:
    """A document whose caption was dropped, or that shows no picture, has nothing to swap."""
    if document.kind == "text_to_image":
        return _boundary(document, layout) > 0
    return document.kind in LOSS_INCREASES and document.sample >= 0


def _scored(document: Document, layout: IdLayout) -> Document:
    """Score what a swap is about: the codes after a caption, or the text after a picture that training scores."""
    weights = (document.weights > 0).astype(np.float32)
    # `[IMG]` says where a caption ends, which its own words tell: it is no code.
    weights[: _boundary(document, layout) + (document.kind == "text_to_image")] = 0
    return dataclasses.replace(document, weights=weights)


def _boundary(document: Document, layout: IdLayout) -> int:
    """Return where the part that is swapped ends: before the `[IMG]` of a drawing, after the `[/IMG]` of a reading."""
    drawn = document.kind == "text_to_image"
    place = int(np.flatnonzero(document.ids == (layout.img if drawn else layout.end_img))[0])
    return place if drawn else place + 1

"""Documents whose context (image or caption) is another document's, to measure how much the context lowers the loss."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from lavit_pretrain.documents import Document
from lavit_pretrain.vocabulary import Vocabulary

LOSS_INCREASES = {"questions": "answer_gain", "image_to_text": "caption_gain", "text_to_image": "prompt_gain"}
"""Kind of document -> the metric that is logged: the increase of its loss in nats a token."""


def swap(documents: Sequence[Document], vocabulary: Vocabulary) -> list[Document]:
    """Return the documents, each with the image (or caption) of the next one of its kind; scored tokens stay."""
    swapped = list(documents)
    for kind in LOSS_INCREASES:
        places = [place for place, document in enumerate(documents) if document.kind == kind]
        for place, next_place in zip(places, places[1:] + places[:1], strict=True):
            kept, other = documents[place], documents[next_place]
            head, tail = context_end(other, vocabulary), context_end(kept, vocabulary)
            swapped[place] = dataclasses.replace(
                other,  # with its features, and where they stand
                ids=np.concatenate([other.ids[:head], kept.ids[tail:]]),
                weights=np.concatenate([np.zeros(head, np.float32), kept.weights[tail:]]),
            )
    return swapped


def can_swap(document: Document, vocabulary: Vocabulary) -> bool:
    """Return whether a document has something to swap: a caption that was not dropped, or an image."""
    if document.kind == "text_to_image":
        return context_end(document, vocabulary) > 0
    return document.kind in LOSS_INCREASES and len(document.samples) == 1


def score_target(document: Document, vocabulary: Vocabulary) -> Document:
    """Return a document that scores only what follows its context: codes after a caption, or text after an image."""
    weights = (document.weights > 0).astype(np.float32)
    # `[IMG]` marks the end of a caption and is no code.
    weights[: context_end(document, vocabulary) + (document.kind == "text_to_image")] = 0
    return dataclasses.replace(document, weights=weights)


def context_end(document: Document, vocabulary: Vocabulary) -> int:
    """Return where the swapped part ends: before `[IMG]` if codes are generated, after `[/IMG]` if an image is read."""
    generates = document.kind == "text_to_image"
    place = int(np.flatnonzero(document.ids == (vocabulary.img if generates else vocabulary.end_img))[0])
    return place if generates else place + 1

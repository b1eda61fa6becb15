"""Packing documents into steps of a fixed number of tokens: deterministic, 99 % full, resumable from a few integers.

Differs from first-fit-decreasing: that puts all long documents, hence one kind, into one step. Here a step is filled
in the order of arrival, its last gap with the longest waiting documents that fit; what waits comes first in the next.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lavit_core.errors import UsageError
from lavit_core.processes import num_processes, process_rank
from lavit_trainkit.distributed import all_gather
from torch import Tensor

from lavit_pretrain.documents import Document

LOOKAHEAD = 256
"""Documents that wait for a gap, at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Documents one after another. T tokens, B documents, S scored positions, F continuous image rows."""

    ids_T: Tensor
    """What the model reads."""
    positions_T: Tensor
    bounds_B1: Tensor
    """int32 [B + 1], where each document begins and ends."""
    rows_S: Tensor
    """Positions whose next token is scored."""
    targets_S: Tensor
    weights_S: Tensor
    image_rows_F: Tensor
    """Positions whose input is continuous."""
    features_FD: Tensor | None
    samples: tuple[int, ...]
    """Reader indices of the images to encode live, in the order of `image_rows_F`."""
    documents: tuple[Document, ...] = ()
    """The packed documents, kept for the image ablation."""

    def to(self, device: torch.device) -> "PackedBatch":
        """Return the batch on a device."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }
        return PackedBatch(**moved)


class Packer:
    """Takes documents by number and gives steps; `state` is all that a resumed run needs."""

    def __init__(
        self,
        document: Callable[[int], Document],
        capacity: int,
        state: Mapping[str, Any] | None = None,
        *,
        num_positions: int | None = None,
    ) -> None:
        self.document, self.capacity, self.num_positions = document, capacity, num_positions
        self.next = int(state["next"]) if state else 0
        self.waiting: list[tuple[int, Document]] = [
            (number, document(number)) for number in (state["waiting"] if state else ())
        ]

    @property
    def state(self) -> dict[str, Any]:
        """Numbers of the next document and of those that wait."""
        return {"next": self.next, "waiting": [number for number, _ in self.waiting]}

    def next_batch(self) -> PackedBatch:
        """Return the next step's documents. Raises UsageError for a document longer than a step, or than the positions
        of the language model."""
        chosen, room = [], self.capacity
        while True:
            if not self.waiting:
                self._fetch()
            if len(self.waiting[0][1]) > room:
                break
            document = self.waiting.pop(0)[1]
            chosen.append(document)
            room -= len(document)
        while len(self.waiting) < LOOKAHEAD and room > 0:
            self._fetch()
        while True:
            fitting = [place for place, (_, document) in enumerate(self.waiting) if len(document) <= room]
            if not fitting:
                return collate(chosen)
            best = max(fitting, key=lambda place: (len(self.waiting[place][1]), -place))
            document = self.waiting.pop(best)[1]
            chosen.append(document)
            room -= len(document)

    def _fetch(self) -> None:
        document = self.document(self.next)
        if len(document) > self.capacity:
            raise UsageError(
                f"setting tokens_per_step: {self.capacity} tokens, but document {self.next} has {len(document)}; "
                "raise tokens_per_step, or where its text makes it long lower max_text_tokens (--set)"
            )
        if self.num_positions is not None and len(document) > self.num_positions:
            raise UsageError(
                f"setting max_text_tokens: document {self.next} has {len(document)} tokens, images included, but the "
                f"language model of --llm a table of {self.num_positions} positions; lower max_text_tokens (--set) in "
                "a new --out, or give --llm a model with more"
            )
        self.waiting.append((self.next, document))
        self.next += 1


def packing_metrics(batches: Sequence[PackedBatch], capacity: int) -> dict[str, float]:
    """Return the tokens and documents of a step, and the share of its room (`capacity` tokens a batch) in use."""
    tokens = sum(len(batch.ids_T) for batch in batches)
    documents = sum(len(batch.documents) for batch in batches)
    return {"tokens": tokens, "documents": documents, "fill": tokens / (capacity * len(batches))}


def share_step(batches: Sequence[PackedBatch]) -> list[PackedBatch]:
    """Return this process's share of a step: whole batches, or a part of one, or (where neither number divides the
    other) a part of each.

    Raises UsageError if a batch has fewer documents than the processes that share it.
    """
    processes, rank = num_processes(), process_rank()
    if len(batches) % processes == 0:
        size = len(batches) // processes
        return list(batches[size * rank : size * (rank + 1)])
    if processes % len(batches) == 0:
        sharing = processes // len(batches)
        return [collate(share_documents(batches[rank // sharing].documents, sharing)[rank % sharing])]
    return [share_batch(batch) for batch in batches]


def all_of_step(each: Sequence[Tensor], num_batches: int) -> Tensor:
    """Return the rows that all processes computed of what `share_step` gave them, in the order of the step."""
    if num_batches % num_processes() == 0 or num_processes() % num_batches == 0:
        return all_gather(torch.cat(list(each)))
    return torch.cat([all_gather(rows) for rows in each])


def share_batch(batch: PackedBatch) -> PackedBatch:
    """Return this process's part of a packed batch: neighbours, about as many tokens as every other process gets.

    Raises UsageError for fewer documents than processes.
    """
    if num_processes() == 1:
        return batch
    return collate(share_documents(batch.documents, num_processes())[process_rank()])


def share_documents(documents: Sequence[Document], num_shares: int) -> list[Sequence[Document]]:
    """Cut a row of documents into `num_shares` of about as many tokens each. Raises UsageError for too few."""
    if len(documents) < num_shares:
        raise UsageError(
            f"setting tokens_per_step: {len(documents)} documents fit one pass, expected at least one for each of the "
            f"{num_shares} processes; raise it (--set), or start fewer"
        )
    ends = np.cumsum([len(document) for document in documents])
    bounds = [0]
    for share in range(1, num_shares):
        # Where the middle of a document lies before the cut, the document does too; nobody is left without one.
        middles = ends - np.diff(ends, prepend=0) / 2
        nearest = int(np.searchsorted(middles, ends[-1] * share / num_shares))
        bounds.append(min(max(nearest, bounds[-1] + 1), len(documents) - (num_shares - share)))
    return [documents[first:last] for first, last in itertools.pairwise([*bounds, len(documents)])]


def collate(documents: Sequence[Document]) -> PackedBatch:
    """Lay documents one after another; positions restart with each."""
    lengths = np.array([len(document) for document in documents])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([document.ids for document in documents])
    read = ids.copy()
    for end, document in zip(starts[1:], documents, strict=True):
        if document.read_tail is not None:
            read[end - len(document.read_tail) : end] = document.read_tail
    weights = np.concatenate([document.weights for document in documents])
    scored = np.flatnonzero(weights)
    rows = [
        np.arange(start + first, start + last)
        for start, document in zip(starts[:-1], documents, strict=True)
        for first, last in document.images
    ]
    continuous = [document for document in documents if document.images]
    features = [document.features for document in continuous if document.features is not None]
    return PackedBatch(
        ids_T=torch.from_numpy(read),
        positions_T=torch.from_numpy(np.arange(len(ids)) - np.repeat(starts[:-1], lengths)),
        bounds_B1=torch.from_numpy(starts.astype(np.int32)),
        rows_S=torch.from_numpy(scored - 1),
        targets_S=torch.from_numpy(ids[scored]),
        weights_S=torch.from_numpy(weights[scored]),
        image_rows_F=torch.from_numpy(np.concatenate(rows) if rows else np.empty(0, np.int64)),
        features_FD=torch.from_numpy(np.concatenate(features)) if features else None,
        samples=tuple(sample for document in continuous for sample in document.samples),
        documents=tuple(documents),
    )

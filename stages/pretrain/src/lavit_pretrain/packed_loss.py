"""The loss of packed documents, its weight in a step, and the parts of it that are logged."""

from collections.abc import Sequence

import torch
from lavit_core.errors import UsageError
from lavit_core.processes import num_processes
from lavit_trainkit.master_weights import drop_gradients
from torch import Tensor

from lavit_pretrain.attention import document_states
from lavit_pretrain.chunked_cross_entropy import chunked_cross_entropy
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.live_images import LiveImages
from lavit_pretrain.packing import PackedBatch


def shared_loss(network: LanguageModel, batch: PackedBatch, live: LiveImages | None) -> tuple[Tensor, Tensor]:
    """Return `packed_loss`, in several processes with a gradient, if only zeros, for every parameter: shards are summed
    together, whether or not this process's documents show an image."""
    loss, each_S = packed_loss(network, batch, live)
    if num_processes() > 1 and torch.is_grad_enabled():
        unused = [parameter.sum() for part in network.visual_parts().values() for parameter in part.parameters()]
        loss = loss + 0 * sum(unused)
    return loss, each_S


def packed_loss(network: LanguageModel, batch: PackedBatch, live: LiveImages | None = None) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of cross-entropies of a packed batch, and each scored position's own [S]."""
    features_FD = batch.features_FD
    if live is not None and batch.samples:
        assert network.merger is not None
        features_BPD, keep_BP = live.select(batch.samples)
        features_FD = network.merger(features_BPD.to(network.head_VD.dtype), keep_BP)
    inputs_TH = network.embed(batch.ids_T, batch.image_rows_F, features_FD)
    hidden_SH = document_states(network.decoder, inputs_TH, batch.positions_T, batch.bounds_B1, batch.rows_S)
    return chunked_cross_entropy(hidden_SH, network.head, batch.targets_S, batch.weights_S)


def scored_weight(batches: Sequence[PackedBatch]) -> float:
    """Return the summed weight of all scored positions of a step. Raises UsageError if it is 0."""
    weight = sum(float(batch.weights_S.sum()) for batch in batches)
    if weight == 0:
        raise UsageError("the loss switches leave nothing to score in a whole step; turn one on (--set)")
    return weight


def drop_unused_gradients(network: LanguageModel, batches: Sequence[PackedBatch]) -> None:
    """Drop the gradients of projector and merger, the zeros of `shared_loss`, after a step that shows no image."""
    if not any(len(batch.image_rows_F) for batch in batches):
        for part in network.visual_parts().values():
            drop_gradients(part)


def step_losses(each_S: Tensor, batches: Sequence[PackedBatch], img: int) -> dict[str, float]:
    """Return the step's weighted loss, and the plain means over codes and over text."""
    weights_S = torch.cat([batch.weights_S for batch in batches]).to(each_S.device)
    is_code_S = torch.cat([batch.targets_S > img for batch in batches]).to(each_S.device)
    losses = {"loss": float((each_S * weights_S).sum() / weights_S.sum())}
    for name, chosen in (("image_loss", is_code_S), ("text_loss", ~is_code_S)):
        if bool(chosen.any()):
            losses[name] = float(each_S[chosen].mean())
    return losses

"""Floating-point operations and kept activations of networks on torch's meta device: shapes, no memory, no data."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """Operations and memory of a forward and a backward pass."""

    flops: float
    """Operations of both, as torch's FlopCounterMode counts them."""
    kept_bytes: float
    """Activations kept for the backward pass, without parameters."""


def forward_flops(run: Callable[[], Any]) -> float:
    """Return the operations of `run`, which calls networks on the meta device, without gradients."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, _fused_attention():
        run()
    return float(counter.get_total_flops())


def training_counts(module: nn.Module, run: Callable[[], Tensor], tables: Sequence[Tensor] = ()) -> Counts:
    """Return what `run` takes, which returns the loss of `module` on the meta device.

    A tensor that several operations keep counts once; parameters, and `tables` made of them, do not count.
    """
    counter = FlopCounterMode(display=False)
    with counter, _fused_attention():
        with _kept([*module.parameters(), *tables]) as storages:
            loss = run()
            kept_bytes = sum(storages.values())
        torch.autograd.backward(loss)
    return Counts(flops=float(counter.get_total_flops()), kept_bytes=float(kept_bytes))


def with_recomputed_block(checkpointed: Counts, plain: Counts, num_blocks: int) -> Counts:
    """Return the counts of gradient checkpointing, with one block's activations while it is computed again."""
    return dataclasses.replace(checkpointed, kept_bytes=checkpointed.kept_bytes + plain.kept_bytes / num_blocks)


@contextlib.contextmanager
def _kept(but: Sequence[Tensor]) -> Iterator[dict[int, int]]:
    own = {tensor.untyped_storage()._cdata for tensor in but}
    sizes: dict[int, int] = {}
    alive: list[Any] = []  # so that no address is used twice

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in own and storage._cdata not in sizes:
            sizes[storage._cdata] = storage.nbytes()
            alive.append(storage)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        yield sizes


@contextlib.contextmanager
def _fused_attention() -> Iterator[None]:
    """Have attention on the meta device be a GPU's fused kernel: torch would spell it out and keep all scores.

    Not a TorchFunctionMode: none stays active where checkpointing computes a block again.
    """
    plain = F.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not query.is_meta:
            return plain(query, key, value, *args, **kwargs)
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
        out: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, True)[0]
        return out

    F.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain

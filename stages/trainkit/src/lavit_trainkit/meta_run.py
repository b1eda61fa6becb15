"""Networks run on torch's meta device, where tensors have shapes and no memory: what they do and keep."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode


def forward_flops(run: Callable[[], Any]) -> float:
    """Return the operations of `run`, which calls networks on the meta device (torch's own count, and 4 R K D)."""
    attentions, counter = _FusedAttention(), FlopCounterMode(display=False)
    with torch.no_grad(), counter, attentions:
        run()
    return float(counter.get_total_flops() + attentions.flops)


def kept_bytes(network: nn.Module, run: Callable[[], Any]) -> int:
    """Return the bytes that `run` keeps for the backward pass, beside the parameters of `network`.

    A tensor that several operations keep counts once. Works on any device.
    """
    with _kept(network) as storages, _FusedAttention():
        run()
        return sum(storages.values())


def kept_between_blocks(network: nn.Module, blocks: Sequence[nn.Module], run: Callable[[], Any]) -> int:
    """Return the bytes kept when `blocks` are computed again in the backward pass: their inputs, what lies between
    them, and all that the largest keeps while it is computed again."""
    inside: list[int] = []
    inputs: list[int] = []
    with _kept(network) as storages, _FusedAttention(), contextlib.ExitStack() as hooks:

        def before(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            inputs.append(sum(value.nbytes for value in arguments if isinstance(value, Tensor)))
            inside.append(-sum(storages.values()))

        def after(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            inside[-1] += sum(storages.values())

        for block in blocks:
            hooks.callback(block.register_forward_pre_hook(before).remove)
            hooks.callback(block.register_forward_hook(after).remove)
        run()
        return sum(storages.values()) - sum(inside) + sum(inputs) + max(inside, default=0)


@contextlib.contextmanager
def _kept(network: nn.Module) -> Iterator[dict[int, int]]:
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
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


class _FusedAttention(TorchFunctionMode):
    """On the meta device torch would spell attention out and keep all scores, which the fused kernels never do."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention and args[0].is_meta:
            query, key, value = args[:3]
            rows, keys = query.shape[:-1].numel(), key.shape[-2]
            self.flops += 2.0 * rows * keys * (query.shape[-1] + value.shape[-1])
            return _Shape.apply(query, key, value)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


class _Shape(torch.autograd.Function):
    """The shape of an attention's output, and what a fused kernel keeps: queries, keys, values and the output."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        query, key, value, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)

"""Linear layers through oneDNN's kernels, for inference on a CPU.

torch gives fp32 to MKL, which leaves AVX-512 unused on processors that are not Intel's. A product took oneDNN 0.41 (Zen
5) and 0.85 (Zen 4) of MKL's time on AMD's; it arranges the weights anew in every call, so 0.85 is no gain. Sums come
in another order, and results differ in the last bits: `OnednnLinear` is never chosen without being asked for.

Weights that stay as they are can be arranged once (`arrange_linears`): products of a few rows, each of which arranged
all weights, then take about half of their time (Zen 4, widths 512 to 4096: 0.4 to 0.8 of it for 2 to 8 rows in fp32 and
in bf16, 0.5 to 0.95 for 128). In bf16 the kernel is torch's own and results are equal to the last bit.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class OnednnLinear(TorchFunctionMode):
    """Within it, fp32 linear layers on a CPU that need no gradients run in oneDNN, all others as ever."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        """Run one function of torch."""
        if func is F.linear and not kwargs and len(args) in (2, 3) and _serves(args[0], args[1]):
            bias = args[2] if len(args) == 3 else None
            return torch.ops.mkldnn._linear_pointwise(args[0], args[1], bias, "none", [], "")
        return func(*args, **(kwargs or {}))


def onednn_works() -> bool:
    """Tell whether this torch has the kernel (a private operation), by a small product."""
    try:
        x, weight = torch.ones(2, 3), torch.ones(4, 3)
        with torch.no_grad(), OnednnLinear():
            return torch.backends.mkldnn.is_available() and bool((F.linear(x, weight) == 3).all())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def _serves(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() > 0
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not torch.is_autocast_enabled("cpu")
    )


class ArrangedLinear(nn.Linear):
    """A linear layer that holds its weights a second time, arranged as oneDNN multiplies them.

    Layers whose weights have been replaced, changed or set to learn since run as ever; a change through `weight.data`
    in its place is not seen. Copies and pickles hold the weights once.
    """

    arranged: Tensor | None
    arranged_from: tuple[int, int]
    """Address and version of the weight that was arranged."""

    def forward(self, input: Tensor) -> Tensor:  # the name is torch's
        """Return rows times the weights, plus the bias."""
        arranged_OI, weight = self.arranged, self.weight
        changed = weight.requires_grad or self.arranged_from != _identity(weight)
        if arranged_OI is None or changed or not takes(input, arranged_OI):
            return super().forward(input)
        return arranged_product(input, arranged_OI, self.bias)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled."""
        return {**vars(self), "arranged": None}


def frozen_linears(module: nn.Module) -> list[nn.Linear]:
    """Return the linear layers of a module that do not learn."""
    return [one for one in module.modules() if type(one) is nn.Linear and not one.weight.requires_grad]


def arrange_linears(module: nn.Module) -> None:
    """Arrange the weights of a module's frozen linear layers, where that pays."""
    for layer in frozen_linears(module):
        held = arranged(layer.weight)
        if held is not None:
            layer.__class__ = ArrangedLinear
            vars(layer).update(arranged=held, arranged_from=_identity(layer.weight))


def unarrange_linears(module: nn.Module) -> None:
    """Take `arrange_linears` back."""
    layers: list[Any] = [one for one in module.modules() if type(one) is ArrangedLinear]
    for layer in layers:
        layer.__class__ = nn.Linear
        del layer.arranged, layer.arranged_from


def _identity(weight: Tensor) -> tuple[int, int]:
    return weight.data_ptr(), weight._version


def arranged(weight_OI: Tensor) -> Tensor | None:
    """Return a weight as `arranged_product` takes it; None where that is impossible, or was not measured to pay."""
    if weight_OI.device.type != "cpu" or not arranging_works(weight_OI.dtype):
        return None
    return torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach())


def takes(x: Tensor, arranged_OI: Tensor) -> bool:
    """Tell whether rows can go through `arranged_product`, which has no gradients."""
    return (
        x.dtype == arranged_OI.dtype
        and x.device.type == "cpu"
        and x.numel() > 0
        and not (x.requires_grad and torch.is_grad_enabled())
        and not torch.is_autocast_enabled("cpu")
    )


def arranged_product(x: Tensor, arranged_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Return rows [..., I] times an arranged weight, plus the bias [O]."""
    return torch.ops.mkldnn._linear_pointwise(x, arranged_OI, bias_O, "none", [], "")


@functools.cache
def arranging_works(dtype: torch.dtype) -> bool:
    """Tell whether this processor is one on which arranging pays (AVX-512), and this torch can do it."""
    if dtype not in (torch.float32, torch.bfloat16) or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        held = torch.ops.mkldnn._reorder_linear_weight(torch.ones(4, 3, dtype=dtype))
        return bool((arranged_product(torch.ones(2, 3, dtype=dtype), held) == 3).all())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False

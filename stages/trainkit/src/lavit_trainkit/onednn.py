"""Linear layers in fp32 through oneDNN's kernels, for inference on a CPU, where one asks for it.

torch gives them to MKL, which leaves AVX-512 unused on processors that are not Intel's. A product took oneDNN 0.41 (Zen
5) and 0.85 (Zen 4) of MKL's time on AMD's; it arranges the weights anew in every call, so 0.85 is no gain. Sums come
in another order, and results differ in the last bits: never chosen without being asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
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

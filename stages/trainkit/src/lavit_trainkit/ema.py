"""The exponential moving average of a network's weights."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from lavit_trainkit.parallel import sharded_like


class Ema:
    """Exponential moving average of a module's parameters: shadow = decay * shadow + (1 - decay) * now."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: value.detach().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the shadow one step towards the module."""
        names, values = zip(*module.named_parameters(), strict=True)
        torch._foreach_lerp_(
            [self.shadow[name] for name in names], [value.detach() for value in values], 1 - self.decay
        )

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up a stored shadow; where a parameter is sharded, so is its average."""
        for name, value in tensors.items():
            self.shadow[name] = sharded_like(value.to(self.shadow[name].device), self.shadow[name])

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Overwrite the module's parameters with the shadow."""
        for name, value in module.named_parameters():
            value.copy_(self.shadow[name])

    @contextlib.contextmanager
    def swapped_into(self, module: nn.Module) -> Iterator[None]:
        """Give the module the averaged weights for a while; afterwards it has its own, to the last bit."""
        own = {name: value.detach().clone() for name, value in module.named_parameters()}
        self.copy_to(module)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in module.named_parameters():
                    value.copy_(own[name])

"""Training in bf16 with fp32 master weights, as in Megatron: a copy computes, the fp32 weights take the updates.

Differs: sharded networks (FSDP2) need no copy; torch casts their shards itself.
"""

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def working_copy(master: Module, dtype: torch.dtype) -> Module:
    """Return a copy of a network in `dtype` for forward and backward passes, or in fp32 the network itself."""
    return master if dtype == torch.float32 else copy.deepcopy(master).to(dtype)


def move_gradients(working: nn.Module, master: nn.Module) -> None:
    """Move the gradients of the working copy to the master weights, in fp32."""
    if working is not master:
        for copied, parameter in zip(working.parameters(), master.parameters(), strict=True):
            parameter.grad = None if copied.grad is None else copied.grad.float()
            copied.grad = None


@torch.no_grad()
def copy_weights(master: nn.Module, working: nn.Module) -> None:
    """Overwrite the working copy with the master weights, rounded to its precision."""
    if working is not master:
        torch._foreach_copy_(list(working.parameters()), list(master.parameters()))


def drop_gradients(module: nn.Module) -> None:
    """Set every gradient of a module to None: AdamW then skips its parameters, where zeros would decay them."""
    for parameter in module.parameters():
        parameter.grad = None

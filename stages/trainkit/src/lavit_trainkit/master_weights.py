"""Training in bf16 with fp32 master weights, as in Megatron: a copy computes, the fp32 weights take the updates.

Frozen weights get no updates: one copy of them, in the lower precision, serves both.
Differs: sharded networks (FSDP2) need no copy; torch casts their shards itself.
"""

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def working_copy(master: Module, dtype: torch.dtype) -> Module:
    """Return a copy of a network in `dtype` for forward and backward passes, or in fp32 the network itself.

    Frozen parameters are rounded in the master too, and shared. Buffers keep their precision: rounded frequencies of
    rotary positions would be others than those that the model is used with.
    """
    if dtype == torch.float32:
        return master
    frozen = [parameter for parameter in master.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        _round(parameter, dtype)
    copied = copy.deepcopy(master, {id(parameter): parameter for parameter in frozen})
    for parameter in copied.parameters():
        _round(parameter, dtype)
    return copied


def _round(parameter: nn.Parameter, dtype: torch.dtype) -> None:
    if parameter.is_floating_point():  # weights in 4 or 8 bits stay what they are
        parameter.data = parameter.data.to(dtype)


def move_gradients(working: nn.Module, master: nn.Module) -> None:
    """Move the gradients of the working copy to the master weights, in fp32."""
    if working is not master:
        for copied, parameter in zip(working.parameters(), master.parameters(), strict=True):
            parameter.grad = None if copied.grad is None else copied.grad.float()
            copied.grad = None


@torch.no_grad()
def copy_weights(master: nn.Module, working: nn.Module) -> None:
    """Overwrite the working copy with the trained master weights, rounded to its precision."""
    if working is not master:
        pairs = zip(working.parameters(), master.parameters(), strict=True)
        trained = [(copied, parameter) for copied, parameter in pairs if parameter.requires_grad]
        torch._foreach_copy_([copied for copied, _ in trained], [parameter for _, parameter in trained])


def drop_gradients(module: nn.Module) -> None:
    """Set every gradient of a module to None: AdamW then skips its parameters, where zeros would decay them."""
    for parameter in module.parameters():
        parameter.grad = None

"""The optimisers of a training loop: AdamW as in the paper, or Muon for the matrices inside a small new model's layers;
AdamW's moments in 32 bits, or those of large matrices in 8.

A loop holds them by name, sets their rates together (`set_rate`) and stores each under its name in a checkpoint.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lavit_trainkit.eight_bit import adamw_8bit, large_matrices
from lavit_trainkit.muon import FIVE_QUINTICS, Quintic, StackedMuon
from lavit_trainkit.parallel import sharded_like


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A module that is trained at rates of its own."""

    module: nn.Module
    lr: float
    """Peak learning rate of AdamW."""
    muon_lr: float | None = None
    """Peak learning rate of Muon for the matrices inside layers; None leaves them to AdamW."""


def build_optimizers(
    parts: Mapping[str, Part],
    *,
    betas: tuple[float, float],
    weight_decay: float,
    eps: float = 1e-8,
    quintics: Sequence[Quintic] = FIVE_QUINTICS,
    moment_bits: int = 32,
) -> dict[str, torch.optim.Optimizer]:
    """Return optimisers by name ("adamw", "muon" where a part asks for it, and with 8 `moment_bits` "adamw8"); each
    trained parameter is in one."""
    muon_groups, eight_bit_groups, rest = [], [], {}
    for name, part in parts.items():
        inside = [] if part.muon_lr is None else layer_matrices(part.module)
        if inside:
            muon_groups.append({"params": inside, "lr": part.muon_lr, "base_lr": part.muon_lr, "name": name})
        taken = set(map(id, inside))
        large = [] if moment_bits == 32 else [p for p in large_matrices(part.module) if id(p) not in taken]
        if large:
            eight_bit_groups.append({"params": large, "lr": part.lr, "base_lr": part.lr, "name": name})
        taken |= set(map(id, large))
        left = [parameter for parameter in part.module.parameters() if id(parameter) not in taken]
        rest[name] = (nn.ParameterList(left), part.lr)
    optimizers: dict[str, torch.optim.Optimizer] = {
        "adamw": adamw(rest, betas=betas, weight_decay=weight_decay, eps=eps)
    }
    if muon_groups:
        optimizers["muon"] = StackedMuon(muon_groups, weight_decay=weight_decay, quintics=quintics)
    if eight_bit_groups:
        optimizers["adamw8"] = adamw_8bit(eight_bit_groups, betas=betas, weight_decay=weight_decay, eps=eps)
    return optimizers


def adamw(
    modules: Mapping[str, tuple[nn.Module, float]],
    *,
    betas: tuple[float, float],
    weight_decay: float,
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """Return a fused AdamW with one group of decayed and one of plain parameters per named module and its rate.

    Vectors (biases, norms) and embedding tables of rank one are not decayed. Frozen parameters are left out.
    """
    groups = []
    for name, (module, lr) in modules.items():
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        for decay, chosen in (
            (weight_decay, [p for p in trained if p.ndim >= 2]),
            (0.0, [p for p in trained if p.ndim < 2]),
        ):
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "base_lr": lr, "lr": lr, "name": name})
    return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=True)


def layer_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Return the trained matrices inside lists of layers: no embedding table, no head, no projection beside them."""
    found: dict[int, nn.Parameter] = {}
    for layers in module.modules():
        if isinstance(layers, nn.ModuleList):
            matrices = (p for p in layers.parameters() if p.ndim == 2 and p.requires_grad)
            found |= {id(parameter): parameter for parameter in matrices}
    return list(found.values())


def step_all(optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
    """Take one step with every optimiser and drop the gradients."""
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def stored_optimizers(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, dict[str, Tensor]]:
    """Return each optimiser's state as a group of tensors `<index>.<entry>`, in the order of its parameters."""
    return {
        name: {
            f"{index}.{entry}": torch.as_tensor(value)
            for index, entries in optimizer.state_dict()["state"].items()
            for entry, value in _entries(entries)
        }
        for name, optimizer in optimizers.items()
    }


def _entries(entries: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield an optimiser's state of a parameter; bitsandbytes puts most of it one level deeper, and reads it flat."""
    for name, value in entries.items():
        if isinstance(value, Mapping):
            yield from value.items()
        else:
            yield name, value


def restore_optimizers(
    optimizers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Put stored state back, group by name; each optimiser must be built over the same parameters in the same order.

    Where a parameter is sharded, so is what is kept of it.
    """
    for group, optimizer in optimizers.items():
        parameters = [parameter for own in optimizer.param_groups for parameter in own["params"]]
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors[group].items():
            index, _, entry = name.partition(".")
            parameter = parameters[int(index)]
            part = sharded_like(value, parameter) if value.shape == parameter.shape else value
            # bitsandbytes counts its steps in a plain number; torch's are floating-point tensors.
            is_number = part.ndim == 0 and part.dtype == torch.int64
            state.setdefault(int(index), {})[entry] = part.item() if is_number else part
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

"""Optimiser and learning-rate schedule (paper: AdamW, warm-up, cosine, clip 1.0)."""

import math
from collections.abc import Iterable, Mapping

import torch
from lavit_core.errors import LavitError
from torch import nn

from lavit_trainkit.parallel import full_tensor


def warmup_cosine(step: int, num_steps: int, *, warmup_steps: int, floor: float = 0.0) -> float:
    """Return the learning-rate factor in [floor, 1] of a step: linear warm-up, then cosine decay to `floor`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def adamw(
    modules: Mapping[str, tuple[nn.Module | nn.Parameter, float]],
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
        parameters = [module] if isinstance(module, nn.Parameter) else list(module.parameters())
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        for decay, chosen in (
            (weight_decay, [p for p in trained if p.ndim >= 2]),
            (0.0, [p for p in trained if p.ndim < 2]),
        ):
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "base_lr": lr, "lr": lr, "name": name})
    return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=True)


def set_rate(optimizers: Mapping[str, torch.optim.Optimizer], factor: float) -> None:
    """Set the learning rate of every group of every optimiser to its base rate times `factor`."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Clip the global gradient norm and return what it was before. Raises LavitError (exit 1) when it is not finite."""
    norm = float(full_tensor(nn.utils.clip_grad_norm_(list(parameters), max_norm)))
    if not math.isfinite(norm):
        raise LavitError(
            f"the gradient norm is {norm}, expected a finite number; the last checkpoint is kept. "
            "Lower the learning rate (--set) in a new --out, or run the same command to retry from the checkpoint"
        )
    return norm

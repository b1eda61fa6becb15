"""Learning-rate schedule (paper: warm-up, then cosine)."""

import math
from collections.abc import Mapping

import torch


def warmup_cosine(step: int, num_steps: int, *, warmup_steps: int, floor: float = 0.0) -> float:
    """Return the learning-rate factor in [floor, 1] of a step: linear warm-up, then cosine decay to `floor`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_rate(optimizers: Mapping[str, torch.optim.Optimizer], factor: float) -> None:
    """Set the learning rate of every group of every optimiser to its base rate times `factor`."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

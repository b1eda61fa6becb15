"""What a training step costs, by arithmetic: floating-point operations, and memory on each device.

Letters: N weights in matrices, R rows that pass them, K rows that each attends to, D width of the heads together.

    forward   2 N R for matrices, 4 R K D for each attention (in full: a causal mask saves nothing here)
    backward  twice the forward of what is trained, once that of what only passes gradients on
    again     the forward of layers that are computed twice (gradient checkpointing)

So a step of a transformer that is trained whole takes 6 N R and 12 R K D. Norms, activation functions and the optimiser
are left out (a few per cent). Memory, in bytes a trained parameter: 4 for the weight, 4 for its gradient, 8 for AdamW's
moments (Muon's: 4), 4 for a moving average.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from torch import nn

Parallel = Literal["ddp", "fsdp"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """One module's share of a step, summed over all devices."""

    name: str
    parameters: int
    trained: int = 0
    """Of them, how many have a gradient."""
    muon: int = 0
    """Of the trained ones, how many Muon holds: one moment instead of two."""
    forward: float = 0.0
    """Operations of the forward pass."""
    backward: float = 0.0
    """Operations of the backward pass."""
    again: float = 0.0
    """Operations of forward passes that are done a second time."""
    kept_bytes: float = 0.0
    """Activations kept for the backward pass, of the rows of one pass."""

    @property
    def flops(self) -> float:
        """All operations."""
        return self.forward + self.backward + self.again


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A training step on the whole batch, however many devices share it."""

    name: str
    unit: str
    """What a step is counted in: token or image."""
    units: int
    costs: tuple[Cost, ...]
    num_steps: int
    low_weights: bool = False
    """Whether bf16 copies of the weights compute (autocast's, or a working copy)."""
    low_gradients: bool = False
    """Whether gradients are computed in bf16 and handed over to fp32 ones (a working copy)."""
    averaged: bool = False
    """Whether a moving average of the weights is kept."""
    gathered: int = 0
    """Parameters that a device holds whole at a time under FSDP: the largest block, and all that is in none."""
    gathered_bytes: float = 14.0
    """Bytes of each of them: weight, gradient and summed gradient in fp32, and autocast's copy."""
    workspace_bytes: float = 0.0
    """Memory of one pass that does not shrink with the number of devices."""

    @property
    def flops(self) -> float:
        """Operations of the step."""
        return sum(cost.flops for cost in self.costs)

    @property
    def trained(self) -> int:
        """Trained parameters."""
        return sum(cost.trained for cost in self.costs)


def memory(step: Step, devices: int, parallel: Parallel) -> dict[str, float]:
    """Return the bytes that each of `devices` holds at the peak of a step, by kind and in all.

    DDP copies everything and divides the rows; FSDP2 also divides weights, gradients and moments, and gathers
    `step.gathered` of them at a time.
    """
    trained, muon = step.trained, sum(cost.muon for cost in step.costs)
    frozen = sum(cost.parameters - cost.trained for cost in step.costs)
    low = 2.0 if step.low_weights else 0.0
    shards = devices if parallel == "fsdp" else 1
    kinds = {
        "weights": 4.0 * trained / shards + 4.0 * frozen,
        "gradients": 4.0 * trained / shards,
        "optimizer": (8.0 * (trained - muon) + 4.0 * muon) / shards,
        "average": 4.0 * trained / shards if step.averaged else 0.0,
        "copies": 0.0,
        "activations": sum(cost.kept_bytes for cost in step.costs) / devices + step.workspace_bytes,
    }
    if parallel == "fsdp" and devices > 1:
        kinds["copies"] = step.gathered * step.gathered_bytes
    else:
        kinds["copies"] = trained * (low + (2.0 if step.low_gradients else 0.0))
        # DDP sums gradients in buckets of their own.
        kinds["copies"] += trained * (2.0 if step.low_gradients else 4.0) if devices > 1 else 0.0
    return {**kinds, "total": sum(kinds.values())}


def matrices(module: nn.Module) -> int:
    """Return N: the weights of all linear and convolutional layers, which is what multiplies rows."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d)
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, layers))


def count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def attention(rows: float, keys: float, width: int) -> float:
    """Return 4 R K D, the operations of one attention: scores, and the mixture of values."""
    return 4.0 * rows * keys * width


def backward_of(forward: float, *, trained: bool, passes_on: bool = False) -> float:
    """Return the operations of a module's backward pass; `passes_on`: something before it is trained."""
    return forward * (2.0 if trained else 1.0 if passes_on else 0.0)


def seconds_of(step: Step, rate: float, efficiency: float, devices: int = 1) -> float:
    """Return the seconds of a step at `rate` operations a second on each device, of which a share is reached."""
    return step.flops / (rate * efficiency * devices)


def hours_of(steps: Sequence[Step], rate: float, efficiency: float) -> float:
    """Return the hours of a whole run on one device."""
    return sum(seconds_of(step, rate, efficiency) * step.num_steps for step in steps) / 3600

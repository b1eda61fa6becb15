"""Cost of a training step: parameters, floating-point operations, and memory on each device.

Operations and activations are counted on torch's meta device (`flops`). Memory, in bytes a trained parameter: 4 for the
weight, 4 for its gradient, 8 for AdamW's moments (Muon's: 4; in 8 bits: 2), 4 for a moving average. The result is an
estimate.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import nn

from lavit_trainkit.eight_bit import BYTES as EIGHT_BIT_BYTES
from lavit_trainkit.eight_bit import large_matrices
from lavit_trainkit.optimizers import layer_matrices
from lavit_trainkit.parallel import Parallel

LAYOUTS: dict[str, tuple[int, Parallel]] = {
    "1": (1, "ddp"), "8 ddp": (8, "ddp"), "8 fsdp": (8, "fsdp"), "64 ddp": (64, "ddp"), "64 fsdp": (64, "fsdp"),
}  # fmt: skip
"""Devices, and how they share the work."""

CARD_BYTES = 24e9
"""Memory of a card of 24 GiB, less what CUDA itself takes of it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """The parameters of one module of a step."""

    name: str
    num_parameters: int
    num_trained: int = 0
    """Those that have a gradient."""
    num_muon: int = 0
    """Trained ones that Muon updates: one moment instead of two."""
    num_eight_bit: int = 0
    """Trained ones whose moments are kept in 8 bits."""
    frozen_bytes: float = 4.0
    """Bytes of each frozen parameter: 2 where they are kept in bf16 alone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A training step on the whole batch, however many devices share it."""

    name: str
    unit: str
    """Unit that a step is counted in: token or image."""
    units: int
    num_steps: int
    parts: tuple[Part, ...]
    flops: float
    """Operations, summed over all devices."""
    activation_bytes: float
    """Activations kept for the backward pass, of one pass over all devices."""
    low_weights: bool = False
    """Whether bf16 copies of the weights compute (autocast's, or a working copy)."""
    low_gradients: bool = False
    """Whether gradients are computed in bf16 and handed over to fp32 ones (a working copy)."""
    averaged: bool = False
    """Whether a moving average of the weights is kept."""
    gathered: int = 0
    """Parameters that a device holds whole at a time under FSDP: the largest block, and all outside of blocks."""
    gathered_bytes: float = 14.0
    """Bytes of each of them: weight, gradient and summed gradient in fp32, and autocast's copy."""
    workspace_bytes: float = 0.0
    """Memory of one pass that does not shrink with the number of devices."""


def part(
    name: str,
    module: nn.Module,
    *,
    trained: bool = False,
    muon: bool = False,
    moment_bits: int = 32,
    frozen_bytes: float = 4.0,
) -> Part:
    """Return a module's parameters as a part of a step; of a trained one, those that require a gradient are trained."""
    inside = layer_matrices(module) if trained and muon else []
    taken = set(map(id, inside))
    large = [one for one in large_matrices(module) if id(one) not in taken] if trained and moment_bits == 8 else []
    num_trained = sum(p.numel() for p in module.parameters() if p.requires_grad) if trained else 0
    return Part(
        name=name,
        num_parameters=count(module),
        num_trained=num_trained,
        num_muon=sum(matrix.numel() for matrix in inside),
        num_eight_bit=sum(matrix.numel() for matrix in large),
        frozen_bytes=frozen_bytes,
    )


def count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def memory(step: Step, devices: int, parallel: Parallel) -> dict[str, float]:
    """Return the bytes that each of `devices` holds at the peak of a step, by kind and in all.

    DDP copies everything and divides the rows; FSDP2 also divides weights, gradients and moments, and gathers
    `step.gathered` of them at a time.
    """
    trained, muon, eight_bit = (
        sum(getattr(part, name) for part in step.parts) for name in ("num_trained", "num_muon", "num_eight_bit")
    )
    frozen = sum(part.frozen_bytes * (part.num_parameters - part.num_trained) for part in step.parts)
    shards = devices if parallel == "fsdp" else 1
    kinds = {
        "weights": 4.0 * trained / shards + frozen,
        "gradients": 4.0 * trained / shards,
        "optimizer": (8.0 * (trained - muon - eight_bit) + 4.0 * muon + EIGHT_BIT_BYTES * eight_bit) / shards,
        "average": 4.0 * trained / shards if step.averaged else 0.0,
        "copies": step.gathered * step.gathered_bytes,
        "activations": step.activation_bytes / devices + step.workspace_bytes,
    }
    if parallel == "ddp" or devices == 1:
        kinds["copies"] = trained * 2.0 * (step.low_weights + step.low_gradients)
        # DDP sums gradients in buckets of their own.
        kinds["copies"] += trained * (2.0 if step.low_gradients else 4.0) if devices > 1 else 0.0
    return {**kinds, "total": sum(kinds.values())}


def units_that_fit(step: Step, pass_units: int, limit_bytes: float = CARD_BYTES) -> int:
    """Return how many units one pass may have on one device of so much memory; 0 if not even the weights fit.

    The step's own activations are those of a pass of `pass_units`.
    """
    fixed = memory(step, 1, "ddp")["total"] - step.activation_bytes
    return max(0, int((limit_bytes - fixed) / step.activation_bytes * pass_units))


def cost_report(steps: Sequence[Step]) -> dict[str, Any]:
    """Return the steps' parameters, operations and memory by layout, as `--dry-run --json` prints them."""
    return {
        "steps": {
            step.name: {
                "num_steps": step.num_steps,
                f"{step.unit}s_per_step": step.units,
                "parameters": {
                    part.name: {"all": part.num_parameters, "trained": part.num_trained} for part in step.parts
                },
                "flops_per_step": step.flops,
                "memory_bytes": {name: memory(step, *layout) for name, layout in LAYOUTS.items()},
            }
            for step in steps
        }
    }


def plan_lines(planned: dict[str, Any]) -> list[str]:
    """Return a whole `--dry-run` for a person: what is assumed, the settings one a line (a phase one a line), what
    follows from them, the parameters, and the cost of each step."""
    lines = [f"assumed: {planned['assumed']}", ""] if "assumed" in planned else []
    lines += ["settings:", *(f"  {name}: {value}" for name, value in _flat(planned["config"]))]
    parts, steps = planned.get("parameters"), planned["cost"]["steps"]
    # Parts that the steps name are listed once, with them.
    but = ("config", "cost", "assumed", *(["parameters"] if isinstance(parts, dict) else []))
    lines += ["", *(f"{name}: {value}" for name, value in _flat(planned, but=but)), "", "parameters:"]
    counted = {name: counts["all"] for step in steps.values() for name, counts in step["parameters"].items()}
    lines += [f"  {name + ':':20}{number:>16,}" for name, number in counted.items()]
    for name, step in steps.items():
        unit, units = next((key.removesuffix("_per_step"), step[key]) for key in step if key.endswith("s_per_step"))
        lines += ["", f"{name}: {step['num_steps']:,} steps of {units:,} {unit}"]
        lines += [f"  floating-point operations a step: {step['flops_per_step']:.3g}", f"  {_trained(step)}"]
        lines += _memory_lines(step["memory_bytes"])
    return lines


def _trained(step: dict[str, Any]) -> str:
    counts = step["parameters"]
    trained = [
        name if part["trained"] == part["all"] else f"{name} ({part['trained']:,})"
        for name, part in counts.items()
        if part["trained"]
    ]
    frozen = [name for name, part in counts.items() if not part["trained"]]
    return "; ".join([f"trained: {', '.join(trained)}", *([f"frozen: {', '.join(frozen)}"] if frozen else [])])


def _memory_lines(memory_bytes: dict[str, dict[str, float]]) -> list[str]:
    kinds = [kind for kind in next(iter(memory_bytes.values())) if any(row[kind] for row in memory_bytes.values())]
    head = "".join(f"{kind:>13}" for kind in kinds)
    rows = [
        f"    {name:10}" + "".join(f"{_gigabytes(row[kind]):>13}" for kind in kinds)
        for name, row in memory_bytes.items()
    ]
    return ["  estimated memory on each device, GB:", f"    {'devices':10}{head}", *rows]


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:.3g}" if value < 1e12 else f"{value / 1e9:,.0f}"


def _flat(values: dict[str, Any], prefix: str = "", but: Sequence[str] = ()) -> list[tuple[str, Any]]:
    """Return nested settings as `--set` spells them."""
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
            flat += [(f"{prefix}{name}.{one['name']}", _inline(one)) for one in value]
        elif name not in but:
            flat += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return flat


def _inline(item: dict[str, Any]) -> str:
    """Return an item of a list, say a phase, on one line without its name."""
    return ", ".join(f"{key} {value}" for key, value in item.items() if key != "name" and value is not None)

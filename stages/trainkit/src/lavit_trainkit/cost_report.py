"""What `--dry-run` says of a run's cost: one dictionary for programs, and lines for people."""

from collections.abc import Sequence
from typing import Any

import torch

from lavit_trainkit.cost import Cost, Parallel, Step, hours_of, memory, seconds_of
from lavit_trainkit.matmul_rate import matmul_rate

EFFICIENCY = 0.4
"""Share of the matrix rate that whole steps are assumed to reach: 0.4 to 0.5 is what well-run trainings of billions of
parameters report (PaLM, arXiv 2204.02311, section 4.1: 0.46). Networks of a few million reach a small part of it."""

LAYOUTS: tuple[tuple[int, Parallel], ...] = ((1, "ddp"), (8, "ddp"), (8, "fsdp"), (64, "ddp"), (64, "fsdp"))
"""Devices, and how they share the work."""


def cost_report(steps: Sequence[Step], *, device: torch.device, precision: str) -> dict[str, Any]:
    """Return parameters, operations and memory of a run's steps, and the speed predicted from this device's rate."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rate = matmul_rate(device, dtype)
    return {
        "steps": {step.name: _step(step, rate) for step in steps},
        "predicted_hours": hours_of(steps, rate, EFFICIENCY),
        "matmul": {"device": str(device), "dtype": str(dtype).removeprefix("torch."), "flops_per_second": rate},
        "assumed_efficiency": EFFICIENCY,
    }


def _step(step: Step, rate: float) -> dict[str, Any]:
    seconds = seconds_of(step, rate, EFFICIENCY)
    return {
        "num_steps": step.num_steps,
        f"{step.unit}s_per_step": step.units,
        "parameters": {cost.name: _parameters(cost) for cost in step.costs},
        "flops_per_step": step.flops,
        "flops": {
            "forward": sum(cost.forward for cost in step.costs),
            "backward": sum(cost.backward for cost in step.costs),
            "again": sum(cost.again for cost in step.costs),
        },
        "memory_bytes": {layout_name(devices, how): memory(step, devices, how) for devices, how in LAYOUTS},
        "predicted_seconds_per_step": seconds,
        f"predicted_{step.unit}s_per_second": step.units / seconds,
    }


def _parameters(cost: Cost) -> dict[str, Any]:
    return {"all": cost.parameters, "trained": cost.trained, "flops_per_step": cost.flops}


def layout_name(devices: int, how: str) -> str:
    """Return how a layout is called: "1", "8 ddp"."""
    return "1" if devices == 1 else f"{devices} {how}"


def cost_lines(report: dict[str, Any]) -> list[str]:
    """Return a report for a person."""
    matmul, share = report["matmul"], report["assumed_efficiency"]
    lines = []
    for name, step in report["steps"].items():
        unit = next(key for key in step if key.endswith("_per_step")).removesuffix("s_per_step")
        flops, units = step["flops"], step[f"{unit}s_per_step"]
        again = f", {flops['again']:.3g} a second time (checkpointing)" if flops["again"] else ""
        lines += [
            "",
            f"{name}: {step['num_steps']:,} steps of {units:,} {unit}s",
            f"  operations a step: {step['flops_per_step']:.3g} = {flops['forward']:.3g} forward, "
            f"{flops['backward']:.3g} backward{again}",
        ]
        for part, told in step["parameters"].items():
            trained = "trained" if told["trained"] == told["all"] else "frozen"
            if 0 < told["trained"] < told["all"]:
                trained = f"{told['trained']:,} trained"
            lines.append(
                f"  {part + ':':20}{told['all']:>16,} parameters, {trained}, {told['flops_per_step']:.3g} operations"
            )
        lines += _memory_lines(step["memory_bytes"])
        seconds, speed = step["predicted_seconds_per_step"], step[f"predicted_{unit}s_per_second"]
        lines.append(f"  predicted on this device alone: {seconds:.3g} s a step, {speed:.3g} {unit}s a second")
    rate = f"{matmul['flops_per_second']:.3g} operations a second that {matmul['dtype']} matrix products"
    lines += [
        "",
        f"predicted for all steps on this device alone: {report['predicted_hours']:.3g} hours. A prediction, not a",
        f"measurement: {share:.0%} assumed of the {rate}",
        f"were just measured at on {matmul['device']}; small networks reach less.",
    ]
    return lines


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


def plan_lines(planned: dict[str, Any]) -> list[str]:
    """Return a whole `--dry-run` for a person: the settings one a line, what follows from them, what it costs."""
    lines = ["settings:", *(f"  {name}: {value}" for name, value in _flat(planned["config"]))]
    lines += ["", *(f"{name}: {value}" for name, value in _flat(planned, but=("config", "cost")))]
    return lines + cost_lines(planned["cost"])


def _flat(values: dict[str, Any], prefix: str = "", but: Sequence[str] = ()) -> list[tuple[str, Any]]:
    """Return nested settings as `--set` spells them."""
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        if name not in but:
            flat += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return flat

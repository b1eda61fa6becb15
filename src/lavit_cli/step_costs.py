"""Costs of each step of a quickstart (wall, CPU, peak memory), kept in RUN/steps.jsonl across restarts."""

import contextlib
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lavit_core.json_lines import append_json_lines, read_json_lines
from lavit_core.peak_memory import forget_peak, peak_resident_bytes

STEPS_FILE = "steps.jsonl"


@contextlib.contextmanager
def measured(run: Path, step: str) -> Iterator[dict[str, Any]]:
    """Measure a block, yield the row, and append it when the block ends, also if it fails or is stopped."""
    forget_peak()
    began, cpu_before = time.monotonic(), cpu_seconds()
    row: dict[str, Any] = {"step": step, "finished": False}
    try:
        yield row
        row["finished"] = True
    finally:
        row["seconds"] = round(time.monotonic() - began, 2)
        row["cpu_seconds"] = round(cpu_seconds() - cpu_before, 2)
        row["peak_memory_bytes"] = peak_resident_bytes()
        # A finished step that is asked for again returns at once: only its first row contains its costs.
        if step not in {old["step"] for old in read_steps(run) if old["finished"]}:
            append_json_lines(run / STEPS_FILE, [row])


def read_steps(run: Path) -> list[dict[str, Any]]:
    """Return the rows of steps.jsonl, without a last line that a kill cut short."""
    return read_json_lines(run / STEPS_FILE)


def costs(run: Path) -> list[dict[str, Any]]:
    """Return one row per step in the order they ran: seconds summed over restarts, the highest peak."""
    totals: dict[str, dict[str, Any]] = {}
    for row in read_steps(run):
        total = totals.setdefault(row["step"], {**row, "seconds": 0.0, "cpu_seconds": 0.0, "peak_memory_bytes": 0})
        total["finished"] = row["finished"]
        total["seconds"] = round(total["seconds"] + row["seconds"], 2)
        total["cpu_seconds"] = round(total["cpu_seconds"] + row["cpu_seconds"], 2)
        total["peak_memory_bytes"] = max(total["peak_memory_bytes"], row["peak_memory_bytes"])
    return list(totals.values())


def cost_line(cost: Mapping[str, Any]) -> str:
    """Return the costs of a step as text."""
    return (
        f"{cost['seconds']:.1f} s wall, {cost['cpu_seconds']:.1f} s CPU, peak {cost['peak_memory_bytes'] / 1e9:.2f} GB"
    )


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)

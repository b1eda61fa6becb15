"""Timings in pairs: the arms take turns, the order alternates, and ratios are taken within a pair.

What else the machine does meets both arms of a pair alike, and CPU seconds vary far less than those of the wall.
"""

import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lavit_core.peak_memory import forget_peak, peak_resident_bytes

from lavit_cli.bench.comparison import Arm, Comparison
from lavit_cli.bench.record import ArmCost, Ratio
from lavit_cli.step_costs import cpu_seconds

SHORTEST = 0.02
"""Seconds below which a call is repeated within one timing."""
MOST_REPEATS = 1000


def time_in_pairs(
    comparison: Comparison, *, pairs: int, device: str, matmul: Callable[[], float] | None
) -> tuple[ArmCost, ArmCost, Ratio, float | None]:
    """Return what both arms cost, their ratio, and our share of the rate of `matmul`, which is timed in each pair.

    `matmul` does a product and returns its operations a second.
    """
    arms = comparison.baseline, comparison.ours
    peaks, firsts = zip(*(peak_of(arm, device) for arm in arms), strict=True)
    repeats = [int(min(MOST_REPEATS, max(1, np.ceil(SHORTEST / max(first, 1e-9))))) for first in firsts]
    found: tuple[list[tuple[float, float]], ...] = ([], [])
    speeds = []
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            found[which].append(_seconds(arms[which], repeats[which], device))
        if matmul is not None:
            speeds.append(matmul())
    costs = [_cost(arm, times, comparison.amount, peak) for arm, times, peak in zip(arms, found, peaks, strict=True)]
    ratios = [theirs[0] / ours[0] for theirs, ours in zip(*found, strict=True)]
    roofline = None
    if comparison.flops is not None and speeds:
        shares = [comparison.flops / ours[0] / speed for ours, speed in zip(found[1], speeds, strict=True)]
        roofline = float(np.median(shares))
    return costs[0], costs[1], ratio_of(ratios), roofline


def ratio_of(ratios: Sequence[float]) -> Ratio:
    """Return median, 5th percentile and range of pairwise ratios."""
    return Ratio(
        median=float(np.median(ratios)),
        low=float(np.quantile(ratios, 0.05)),
        least=float(min(ratios)),
        most=float(max(ratios)),
        pairs=len(ratios),
    )


def slope_of(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the exponent of the power law through points, by least squares of logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def peak_of(arm: Arm, device: str) -> tuple[int | None, float]:
    """Run an arm once; return the most bytes it held above what was held before, and its seconds.

    Bytes are the device's, else those resident; None where another process does the work.
    """
    if arm.clock is not None:
        return None, _seconds(arm, 1, device)[0]
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        seconds = _seconds(arm, 1, device)[0]
        return int(torch.cuda.max_memory_allocated(device) - before), seconds
    _give_back_free_memory()
    forget_peak()
    before = peak_resident_bytes()
    seconds = _seconds(arm, 1, device)[0]
    return peak_resident_bytes() - before, seconds


def seconds_of(run: Callable[[], Any], device: str) -> float:
    """Return the seconds of one call: of the CPU, or between events of a GPU."""
    return _seconds(Arm(name="", run=run), 1, device)[0]


def _seconds(arm: Arm, repeats: int, device: str) -> tuple[float, float]:
    """Return seconds (CPU's, or between a GPU's events) and wall seconds of a call, the mean over `repeats`."""
    if device.startswith("cuda") and arm.clock is None:
        import torch

        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        first.record()
        for _ in range(repeats):
            arm.run()
        last.record()
        torch.cuda.synchronize(device)
        return first.elapsed_time(last) / 1e3 / repeats, (time.perf_counter() - began) / repeats
    clock = arm.clock or cpu_seconds
    wall, cpu = time.perf_counter(), clock()
    for _ in range(repeats):
        arm.run()
    return (clock() - cpu) / repeats, (time.perf_counter() - wall) / repeats


def _cost(arm: Arm, times: Sequence[tuple[float, float]], amount: float, peak: int | None) -> ArmCost:
    seconds, wall = (float(value) for value in np.median(np.asarray(times), axis=0))
    return ArmCost(name=arm.name, seconds=seconds, wall=wall, rate=amount / seconds, peak_bytes=peak)


def _give_back_free_memory() -> None:
    """Let glibc return what was freed, or the next call would live in it and seem to take nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

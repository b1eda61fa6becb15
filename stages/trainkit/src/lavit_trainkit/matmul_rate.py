"""How fast this device multiplies matrices: the ceiling that a prediction of training speed starts from."""

import time

import torch

SECONDS = 0.7
"""Length of the measurement."""
SMALLEST, LARGEST = 512, 8192
"""Sides of the square matrices that are tried."""
LONG_ENOUGH = 0.01
"""Seconds of one product from which the time to start it no longer matters."""


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return operations a second of a square matrix product, the median of about a second of them."""
    side = SMALLEST
    while side < LARGEST and _time(side, device, dtype) < LONG_ENOUGH:
        side *= 2
    times: list[float] = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or len(times) < 3:
        times.append(_time(side, device, dtype))
    return 2.0 * side**3 / sorted(times)[len(times) // 2]


def _time(side: int, device: torch.device, dtype: torch.dtype) -> float:
    left, right = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    left @ right  # the first one compiles, allocates and wakes threads
    _wait(device)
    began = time.monotonic()
    left @ right
    _wait(device)
    return time.monotonic() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

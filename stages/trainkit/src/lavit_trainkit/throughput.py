"""Speed of a job: units of work (images, tokens) against wall time and processor time."""

import time

import torch
from lavit_core.peak_memory import peak_resident_bytes


class Meter:
    """Counts units of work since it was made, in this process's share of a run that may have been resumed."""

    def __init__(self) -> None:
        self._wall, self._cpu, self._units = time.monotonic(), time.process_time(), 0

    def count(self, units: int) -> None:
        """Add finished units."""
        self._units += units

    @property
    def per_second(self) -> float:
        """Units a second of wall time."""
        return self._units / max(time.monotonic() - self._wall, 1e-9)

    def speed(self) -> dict[str, float]:
        """Return wall `seconds` and units `per_second`, for a row of metrics."""
        return {"seconds": round(time.monotonic() - self._wall, 3), "per_second": round(self.per_second, 3)}

    def summary(self) -> dict[str, float]:
        """Return `speed`, processor seconds and peak memory in bytes, for a run's summary."""
        cpu_seconds = round(time.process_time() - self._cpu, 2)
        return {**self.speed(), "cpu_seconds": cpu_seconds, "peak_memory_bytes": _peak_memory_bytes()}


def _peak_memory_bytes() -> int:
    """Return the peak memory in bytes: of the GPU where one is in use, else of this process (resident)."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return peak_resident_bytes()

"""Small measurements of the stage's runs: speed, memory, held-out split."""

import time
from typing import Any

import numpy as np
from lavit_core.seeds import derive_seed
from lavit_trainkit.memory import peak_memory_bytes


class Meter:
    """Wall and processor time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def speed(self, images: int) -> dict[str, float]:
        """Return `seconds` since the start of this process's share and `per_second` images of it."""
        seconds = time.monotonic() - self._wall
        return {"seconds": round(seconds, 3), "per_second": round(images / max(seconds, 1e-9), 2)}

    def summary(self, images: int) -> dict[str, Any]:
        """Return seconds, images a second, processor seconds and peak memory for the run's summary."""
        seconds = time.monotonic() - self._wall
        return {
            "seconds": round(seconds, 2),
            "per_second": round(images / max(seconds, 1e-9), 2),
            "cpu_seconds": round(time.process_time() - self._cpu, 2),
            "peak_memory_bytes": peak_memory_bytes(),
        }


def split_validation(num_items: int, num_validation: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (training, validation) indices; validation is at most a tenth of the items, and neither is ever empty.

    With fewer than ten items, validation repeats training items rather than being empty.
    """
    order = np.random.default_rng(derive_seed(seed, "validation")).permutation(num_items)
    held = min(num_validation, num_items // 10)
    if held == 0:
        return np.sort(order), np.sort(order[: max(1, min(num_items, num_validation))])
    return np.sort(order[held:]), np.sort(order[:held])

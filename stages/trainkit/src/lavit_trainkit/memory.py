"""The most memory that a training loop has taken, for its rows and summary."""

import torch
from lavit_core.peak_memory import peak_resident_bytes


def peak_memory_bytes() -> int:
    """Return the peak memory in bytes: of the GPU where one is in use, else of this process (resident)."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return peak_resident_bytes()

"""How much memory a training loop has taken, for its rows."""

import resource

import torch


def peak_memory_bytes() -> int:
    """Return the most memory used so far: of the GPU where one is in use, else of this process (resident)."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

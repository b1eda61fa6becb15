"""Which of torchrun's processes this one is, read from the environment. A process started alone is the first of one."""

import os


def num_processes() -> int:
    """Return how many processes work on this job together."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def process_rank() -> int:
    """Return this process's number, from 0; number 0 alone writes files and speaks."""
    return int(os.environ.get("RANK") or 0) if num_processes() > 1 else 0


def is_main() -> bool:
    """Return whether this process is the one that writes and speaks."""
    return process_rank() == 0

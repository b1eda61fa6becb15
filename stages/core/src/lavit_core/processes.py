"""The rank of this process under torchrun, read from the environment; without torchrun, rank 0 of one process."""

import os


def num_processes() -> int:
    """Return the number of processes of this job."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def process_rank() -> int:
    """Return this process's rank; only rank 0 writes files and prints."""
    return int(os.environ.get("RANK") or 0) if num_processes() > 1 else 0


def is_first_of_machine() -> bool:
    """Return whether this process does what is needed once on each machine."""
    return num_processes() == 1 or int(os.environ.get("LOCAL_RANK") or 0) == 0


def is_main() -> bool:
    """Return whether this process is the one that writes files and prints."""
    return process_rank() == 0

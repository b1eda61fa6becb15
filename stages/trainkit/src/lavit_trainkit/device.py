"""Devices, precision and random streams, through accelerate and torch."""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from lavit_core.device_name import check_device_name
from lavit_core.errors import UsageError
from lavit_core.seeds import derive_seed


def make_accelerator(*, device: str = "auto", precision: str = "bf16") -> Accelerator:
    """Return accelerate's front for a device ("auto", "cpu", "cuda") and a precision ("fp32", "bf16").

    Raises UsageError for another word, and when CUDA is asked for and absent.
    """
    check_training_device(device)
    # accelerate keeps the first call's settings for the whole process; a quickstart runs several jobs in one.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device == "cpu", mixed_precision="no" if precision == "fp32" else precision)


def pick_device(device: str = "auto") -> torch.device:
    """Return the torch device for inference.

    Raises UsageError for another word than "auto", "cpu", "cuda", "cuda:N", and when CUDA is asked for and absent.
    """
    check_device(device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def check_device(device: str) -> None:
    """Raise UsageError for a device that is not there: before a run directory is made."""
    check_device_name(device)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: no CUDA device here; use --device cpu")


def check_training_device(device: str) -> None:
    """Raise UsageError for a device that is not there, and for one of several: trainers take what they see."""
    check_device(device)
    if device.startswith("cuda:"):
        number = device.removeprefix("cuda:")
        raise UsageError(f"--device {device}: a trainer takes what it sees; use CUDA_VISIBLE_DEVICES={number} and cuda")


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a fresh torch generator for the stream named by `purpose` (see lavit_core.seeds)."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


def seed_init(seed: int, *purpose: str | int) -> None:
    """Seed torch's global generator before a network is built: library constructors draw from nowhere else."""
    torch.manual_seed(derive_seed(seed, "init", *purpose))

"""Stored weights, read strictly into a module's state."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from lavit_core.errors import InputError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def load_weights(state: Mapping[str, Tensor], file: Path, *, without: Sequence[str] = ()) -> None:
    """Fill a state dict in place from safetensors: all of its tensors and nothing else.

    Tensors whose names begin with one of `without` may be in the file and are not read.
    Raises InputError naming the file and the first tensor that differs.
    """
    try:
        tensors = load_file(file)
    except FileNotFoundError:
        raise InputError(f"{file}: file not found; the folder is incomplete, copy it again") from None
    except SafetensorError as error:
        raise InputError(f"{file}: not a safetensors file ({error}); copy it again") from None
    expected = {name: tuple(value.shape) for name, value in state.items()}
    found = {name: tuple(value.shape) for name, value in tensors.items() if not name.startswith(tuple(without))}
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing:
        name = differing[0]
        raise InputError(
            f"{file}: {name} has shape {found.get(name)}, expected {expected.get(name)} "
            f"({len(differing)} weights differ); config.json and weights are not of one model"
        )
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(tensors[name])

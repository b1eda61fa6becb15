"""What stored weights must be before a network is filled with them: as large as its configuration says, and finite."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lavit_core.errors import InputError
from lavit_core.files import read_json
from torch import Tensor, nn

MOST_MISSING = 2
"""A network may have this many times the numbers of its files (transformers names what is missing of the others)."""


LAYERS_BUILT = 1000
"""Layers that are built whatever the weights are: configurations count layers under names that mean no stack of them
(Qwen2's max_window_layers is 28 beside one layer)."""


def require_finite(file: Path | str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Raise InputError naming file and tensor if a weight is NaN or infinite: a network would answer in silence."""
    for name, value in tensors:
        # Eight-bit floats have no minimum in torch.
        if not value.is_floating_point() or value.element_size() < 2 or not value.numel():
            continue
        ends = torch.stack(torch.aminmax(value.detach())).float()
        if not torch.isfinite(ends).all():
            raise InputError(f"{file}: {name} holds NaN or infinity, expected finite weights; copy it or make it again")


def require_depth(config: Path, num_tensors: int) -> None:
    """Refuse a configuration of more layers than its weights have tensors: building it could take for ever.

    Raises InputError naming the key.
    """
    for key, value in _sizes(read_json(config)):
        if ("layer" in key or key == "depth") and value > max(LAYERS_BUILT, num_tensors):
            raise InputError(f"{config}: {key} is {value}, but the weights have {num_tensors} tensors; copy it again")


def _sizes(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _sizes(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _sizes(inner, key)
    elif type(value) is int:
        yield key, value


def require_size(config: Path, shapes: Mapping[str, tuple[int, ...]], build: Callable[[], nn.Module]) -> None:
    """Refuse a configuration whose network is much larger than its weights, before memory is taken for it.

    `shapes` are those of the weights' tensors. Raises InputError.
    """
    require_depth(config, len(shapes))
    with describing(config):
        network = build()
    needed = sum(value.numel() for value in network.parameters())
    stored = sum(torch.Size(shape).numel() for shape in shapes.values())
    if needed > MOST_MISSING * stored:
        raise InputError(
            f"{config}: describes {needed} weights, and {stored} are stored beside it; copy the folder again"
        )


@contextlib.contextmanager
def describing(config: Path) -> Iterator[None]:
    """Build a network as names and shapes alone (torch's meta device). Raises InputError naming the configuration."""
    try:
        with torch.device("meta"):
            yield
    except InputError:
        raise
    # Impossible sizes fail in any way that a constructor does: ZeroDivisionError, RuntimeError, OverflowError ...
    except Exception as error:  # noqa: BLE001
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{config}: describes no network ({reason})") from None

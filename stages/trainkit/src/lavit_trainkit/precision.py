"""The precision of a training, by its device, and of a model in use, by how it is stored."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from lavit_core.config import Config
from lavit_core.device_name import check_precision_name
from lavit_core.errors import InputError
from lavit_core.progress import warn
from lavit_core.rundir import recorded_settings
from safetensors import SafetensorError, safe_open

from lavit_trainkit.device import pick_device
from lavit_trainkit.external_weights import weight_files

Settings = TypeVar("Settings", bound=Config)

WIDE = {"F32", "F64"}
"""Element types of safetensors that bfloat16 would cut short."""


BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""What processors call their products of bfloat16 (x86, x86, Arm, Arm), by torch's names."""


@functools.cache
def computes_bf16(kind: str) -> bool:
    """Return whether a kind of device ("cpu", "cuda") computes products in bfloat16.

    A processor without such instructions does them element by element: a convolution takes 60 times as long as in fp32.
    """
    if kind != "cpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(found.get(name, False) for name in BF16_INSTRUCTIONS)


def fastest_precision(precision: str, device: str) -> str:
    """Return fp32 or bf16: the one asked for, or with `auto` bf16 where the device computes it, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if computes_bf16(pick_device(device).type) else "fp32"


def with_precision(config: Settings, device: str, *, out: Path | None = None) -> Settings:
    """Return settings in which `precision` says fp32 or bf16: auto is that of `fastest_precision`.

    A run that was begun in `out` goes on in its own, whatever this device computes.
    """
    asked = config.model_dump()["precision"]
    begun = recorded_settings(out).get("precision") if out is not None and asked == "auto" else None
    return config.model_copy(update={"precision": fastest_precision(begun or asked, device)})


def choose_precision(precision: str, folder: Path, stems: Sequence[str], *, kind: str | None = None) -> str:
    """Return fp32 or bf16: the one asked for, or with `auto` the one that a folder's weights are stored in.

    Weights stored in 16 bits (imported ones are) were made to be computed so, and take half the memory. Where they are
    about to be used on a `kind` of device that does not compute bf16, and nobody asked for it, that is told once.
    Raises UsageError for another word, InputError when the folder has no whole weights.
    """
    check_precision_name(precision)
    if precision != "auto":
        return precision
    stored = "bf16" if all(_is_narrow(file) for file in weight_files(folder, stems)) else "fp32"
    if stored == "bf16" and kind is not None:
        _warn_of_emulation(kind)
    return stored


@functools.cache
def _warn_of_emulation(kind: str) -> None:
    if not computes_bf16(kind):
        warn(
            "the weights are stored in bf16, which this device does not compute itself; --precision fp32 is several "
            "times as fast and takes twice the memory"
        )


def dtype_of(precision: str) -> torch.dtype:
    """Return the element type of weights used in fp32 or bf16."""
    return torch.float32 if precision == "fp32" else torch.bfloat16


def _is_narrow(file: Path) -> bool:
    if file.suffix != ".safetensors":
        return False  # a torch checkpoint: nothing here writes them
    try:
        with safe_open(file, framework="pt") as opened:
            kinds = {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
    except OSError as error:
        # safetensors says "not found" of a file that it may not read, too.
        reason = "Permission denied" if file.exists() else error.strerror or "file not found"
        raise InputError(f"{file}: can't be read ({reason})") from None
    except SafetensorError as error:
        raise InputError(f"{file}: not a whole safetensors file ({error}); copy it again") from None
    return not kinds & WIDE

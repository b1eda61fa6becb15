"""The precision a model is used in: the one it is stored in, unless the caller gives another."""

from collections.abc import Sequence
from pathlib import Path

import torch
from lavit_core.device_name import check_precision_name
from lavit_core.errors import InputError
from safetensors import SafetensorError, safe_open

from lavit_trainkit.external_weights import weight_files

WIDE = {"F32", "F64"}
"""Element types of safetensors that bfloat16 would cut short."""


def choose_precision(precision: str, folder: Path, stems: Sequence[str]) -> str:
    """Return fp32 or bf16: the one asked for, or with `auto` the one that a folder's weights are stored in.

    Weights stored in 16 bits (imported ones are) were made to be computed so, and take half the memory.
    Raises UsageError for another word, InputError when the folder has no whole weights.
    """
    check_precision_name(precision)
    if precision != "auto":
        return precision
    return "bf16" if all(_is_narrow(file) for file in weight_files(folder, stems)) else "fp32"


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

"""AdamW with moments in 8 bits (arXiv 2110.02861), through bitsandbytes: a byte and a share of a scale for each.

As the paper advises, tables of tokens keep 32 bits. So do vectors and small matrices, which hold little.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from lavit_core.errors import InputError, UsageError
from torch import nn

from lavit_trainkit.parallel import Parallel, is_sharded

LEAST_SIZE = 4096
"""Smaller tensors keep 32 bits, as bitsandbytes has it."""
BLOCK = 256
"""Numbers that share a scale of 4 bytes."""
BYTES = 2 * (1 + 4 / BLOCK)
"""Of both moments of a number."""


def check_moment_bits(bits: int, parallel: Parallel) -> None:
    """Raise UsageError for 8 bits of sharded moments, InputError if bitsandbytes is missing."""
    if bits == 32:
        return
    if is_sharded(parallel):
        raise UsageError(
            f"setting moment_bits: {bits} with parallel: fsdp: scales of 256 numbers are not sharded; set moment_bits "
            "to 32, or parallel to ddp"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            f"setting moment_bits: {bits} needs bitsandbytes, which is not installed; run `pip install bitsandbytes`, "
            "or keep 32 bits (--set moment_bits=32)"
        )


def large_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Return a module's trained parameters whose moments 8 bits are kept of."""
    # By their parameters: a table whose new rows alone are trained is in two parts.
    tables = {id(one) for table in module.modules() if isinstance(table, nn.Embedding) for one in table.parameters()}
    return [
        parameter
        for parameter in module.parameters()
        if parameter.requires_grad
        and parameter.ndim >= 2
        and parameter.numel() >= LEAST_SIZE
        and id(parameter) not in tables
    ]


def adamw_8bit(
    groups: Sequence[dict[str, Any]], *, betas: tuple[float, float], weight_decay: float, eps: float
) -> torch.optim.Optimizer:
    """Return bitsandbytes' AdamW of groups of parameters with rates of their own."""
    # Imported late: an extra, which takes a second.
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(
        groups, betas=betas, eps=eps, weight_decay=weight_decay, min_8bit_size=LEAST_SIZE
    )
    return optimizer

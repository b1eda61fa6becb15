"""Gradient clipping (paper: global norm 1.0)."""

import math
from collections.abc import Iterable

from lavit_core.errors import LavitError
from torch import nn

from lavit_trainkit.parallel import full_tensor


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Clip the global gradient norm and return what it was before. Raises LavitError (exit 1) when it is not finite."""
    norm = float(full_tensor(nn.utils.clip_grad_norm_(list(parameters), max_norm)))
    if not math.isfinite(norm):
        raise LavitError(
            f"the gradient norm is {norm}, expected a finite number; the last checkpoint is kept. "
            "Lower the learning rate (--set) in a new --out, or run the same command to retry from the checkpoint"
        )
    return norm

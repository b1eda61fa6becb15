"""Errors that end a training loop: a non-finite loss, and a stop request."""

import math
from pathlib import Path

from lavit_core.errors import Interrupted, LavitError


def require_finite(loss: float, *, name: str, step: int, run: Path) -> None:
    """Raise LavitError (exit 1) when a loss is NaN or infinite; the run's last checkpoint stays as it was."""
    if not math.isfinite(loss):
        raise LavitError(
            f"{run}: {name} is {loss} at step {step}, expected a finite number; the last checkpoint is kept. "
            "Lower the learning rate (--set) in a new --out, or run the same command to retry from the checkpoint"
        )


def stopped(run: Path, step: int, num_steps: int) -> Interrupted:
    """Return the error for a run that was asked to stop after it saved its checkpoint."""
    return Interrupted(f"{run}: at step {step} of {num_steps}, state saved; run the same command to go on")

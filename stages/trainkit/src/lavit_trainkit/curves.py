"""Diagnostics of a loss curve during training: it rises, or it does not fall. They read only logged rows.

So a resumed run, whose rows are cut at its checkpoint, reports exactly what an uninterrupted one does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lavit_core.rundir import Diagnostic

LAST = 5
"""Rows behind a mean: one row is one batch, and noisy."""

RISEN = 1.5
"""A mean this many times the lowest one so far is a rise; the noise of the demo and of a photo run stays below 1.2."""

FALLEN = 0.98
"""After a third of the steps the mean must lie below this share of where the run began."""

Rows = Sequence[Mapping[str, Any]]


def last_mean(rows: Rows, name: str, count: int = LAST) -> float | None:
    """Return the mean of a metric over the last `count` rows that have it; None if there are fewer."""
    values = [float(row[name]) for row in rows if row.get(name) is not None][-count:]
    return sum(values) / count if len(values) == count else None


def diagnose_loss(
    rows: Rows, name: str, *, first: int = 0, num_steps: int, warmup_steps: int, lower: str, falls: bool = True
) -> list[Diagnostic]:
    """Return what is wrong with the curve of `name` in rows that begin after step `first` and last `num_steps` steps.

    `lower` names the settings of the learning rate; `falls` is False for a phase that begins where another one ended.
    """
    values = [(row["step"] - first, float(row[name])) for row in rows if row.get(name) is not None]
    if len(values) < 3 * LAST:
        return []
    step, now = values[-1][0], _mean(values[-LAST:])
    settled = [place for place in range(LAST, len(values) - LAST + 1) if values[place - LAST][0] >= warmup_steps]
    if settled:
        lowest, at = min((_mean(values[place - LAST : place]), values[place - 1][0]) for place in settled)
        if now > RISEN * lowest and now > 0:
            return [
                Diagnostic(
                    "diverging",
                    f"{name} rose from {lowest:.3g} (step {first + at}) to {now:.3g}: training diverges, and what was "
                    f"learned is being lost; lower {lower}, or lengthen warmup_steps, in a new --out",
                )
            ]
    began = _mean(values[:LAST])
    if falls and step >= num_steps / 3 and step > 2 * warmup_steps and now > FALLEN * began:
        return [
            Diagnostic(
                "not falling",
                f"{name} is {now:.3g} after {step} of {num_steps} steps and was {began:.3g} at the start: nothing is "
                f"being learned; raise {lower}, or look whether the data fits together (lavit data inspect)",
            )
        ]
    return []


def _mean(values: Sequence[tuple[int, float]]) -> float:
    return sum(value for _, value in values) / len(values)

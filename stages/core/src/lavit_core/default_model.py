"""The model of a command line that names none: $LAVIT_MODEL, else the newest finished one under ./runs."""

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lavit_core.errors import UsageError
from lavit_core.modeldir import METADATA_FILE, default_preset, image_input_of

if TYPE_CHECKING:
    from lavit_core.command import CommonOptions

VARIABLE = "LAVIT_MODEL"
RUNS = Path("runs")


def model_or_default(given: Path | None, *parts: str) -> Path:
    """Return the model directory of a command that needs `parts` of it, and say on stderr which one was chosen.

    Raises UsageError, with what makes a model, if none is given, set or found.
    """
    found = _find_model(given, *parts)
    if found is None:
        raise UsageError(
            f"no model: give --model DIR or set {VARIABLE}; no model under ./{RUNS} has {', '.join(parts)} "
            "(`make demo` makes one: runs/demo/model)"
        )
    model, reason = found
    if reason:
        sys.stderr.write(f"model: {model} ({reason})\n")
    return model


def with_default_preset(common: "CommonOptions", model: Path | None, *parts: str) -> "CommonOptions":
    """Return options whose preset, if none is given, is the one of the model that `model_or_default` chooses."""
    if common.preset is not None:
        return common
    found = _find_model(model, *parts)
    return dataclasses.replace(common, preset="tiny" if found is None else default_preset(found[0]))


def _find_model(given: Path | None, *parts: str) -> tuple[Path, str] | None:
    """Return the model directory of a command, and why it was chosen if it was not given."""
    if given is not None:
        return given, ""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen), f"${VARIABLE}"
    # The shallower of equally new ones: a quickstart links its last step's model to RUN/model.
    found = sorted(_finished_models(parts), key=lambda model: (_written(model), -len(model.parts)), reverse=True)
    # A model trained without images answers blind, and serves as a comparison only.
    newest = next((model for model in found if image_input_of(model) != "none"), None)
    return None if newest is None else (newest, f"the newest under ./{RUNS}; choose with --model")


def _finished_models(parts: Sequence[str]) -> Iterator[Path]:
    for depth in ("*", "*/*", "*/*/*"):
        for file in RUNS.glob(f"{depth}/{METADATA_FILE}"):
            if all((file.parent / part).is_dir() for part in parts):
                yield file.parent


def _written(model: Path) -> int:
    # An export ends with this file.
    return (model / METADATA_FILE).stat().st_mtime_ns

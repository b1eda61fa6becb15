"""The model of a command line that names none: $LAVIT_MODEL, else the newest finished one under ./runs."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lavit_core.errors import UsageError
from lavit_core.modeldir import METADATA_FILE, image_input_of

VARIABLE = "LAVIT_MODEL"
RUNS = Path("runs")


def model_or_default(given: Path | None, *parts: str) -> Path:
    """Return the model directory of a command that needs `parts` of it, and say on stderr which one was chosen.

    Raises UsageError, with what makes a model, if none is given, set or found.
    """
    if given is not None:
        return given
    if chosen := os.environ.get(VARIABLE):
        sys.stderr.write(f"model: {chosen} (${VARIABLE})\n")
        return Path(chosen)
    # The shallower of equally new ones: a quickstart links its last step's model to RUN/model.
    found = sorted(_finished_models(parts), key=lambda model: (_written(model), -len(model.parts)), reverse=True)
    # A model trained without images answers blind, and serves as a comparison only.
    newest = next((model for model in found if image_input_of(model) != "none"), None)
    if newest is None:
        raise UsageError(
            f"no model: give --model DIR or set {VARIABLE}; no model under ./{RUNS} has {', '.join(parts)} "
            "(`make demo` makes one: runs/demo/model)"
        )
    sys.stderr.write(f"model: {newest} (the newest under ./{RUNS}; choose with --model)\n")
    return newest


def _finished_models(parts: Sequence[str]) -> Iterator[Path]:
    for depth in ("*", "*/*", "*/*/*"):
        for file in RUNS.glob(f"{depth}/{METADATA_FILE}"):
            if all((file.parent / part).is_dir() for part in parts):
                yield file.parent


def _written(model: Path) -> int:
    # An export ends with this file.
    return (model / METADATA_FILE).stat().st_mtime_ns

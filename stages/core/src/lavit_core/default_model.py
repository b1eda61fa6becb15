"""The model of a command line that names none: $LAVIT_MODEL, else the newest finished one under ./runs."""

import os
import sys
from pathlib import Path

from lavit_core.errors import UsageError
from lavit_core.files import read_json

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
    found = [model for model in _finished_models() if all((model / part).is_dir() for part in parts)]
    if not found:
        raise UsageError(
            f"no model: give --model DIR or set {VARIABLE}; no model under ./{RUNS} has {', '.join(parts)} "
            "(`make demo` makes one: runs/demo/model)"
        )
    newest = max(found, key=lambda model: ((model / "lavit.json").stat().st_mtime_ns, -len(model.parts)))
    sys.stderr.write(f"model: {newest} (the newest under ./{RUNS}; choose with --model)\n")
    return newest


def _finished_models() -> list[Path]:
    # lavit.json is written last; models trained without images answer blind, and serve as a comparison only.
    found = [file.parent for depth in ("*", "*/*", "*/*/*") for file in RUNS.glob(f"{depth}/lavit.json")]
    return [model for model in found if not _is_blind(model)]


def _is_blind(model: Path) -> bool:
    visual = model / "llm" / "visual.json"
    return visual.is_file() and read_json(visual).get("image_input") == "none"

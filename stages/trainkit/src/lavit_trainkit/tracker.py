"""A run's metrics and sample images in TensorBoard, wandb, trackio or MLflow, through accelerate's trackers.

Names and values are those of metrics.jsonl. The tracker's id of the run is kept in RUN/tracker.json, so that a resumed
run goes on in the same curves.
"""

import contextlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import (
    GeneralTracker,
    MLflowTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
)
from lavit_core.errors import UsageError
from lavit_core.files import read_json, write_json
from lavit_core.rundir import flatten
from PIL import Image

PROJECT = "lavit"
"""Project (MLflow: experiment) that runs are logged to; $WANDB_PROJECT and $MLFLOW_EXPERIMENT_NAME win."""
IDS_FILE = "tracker.json"
WHERE = frozenset({"step", "phase"})
"""Keys of a row that are no metrics."""


class Tracker:
    """An open tracker of one run, in the process that writes files. Made by `open_tracker`."""

    def __init__(self, opened: GeneralTracker) -> None:
        self._opened = opened

    def log(self, row: Mapping[str, Any]) -> None:
        """Log the numbers of a row of metrics at its step."""
        values = {name: value for name, value in row.items() if name not in WHERE and isinstance(value, int | float)}
        self._opened.log(values, step=row["step"])

    def log_images(self, step: int, files: Mapping[str, Path]) -> None:
        """Log PNG files under their names."""
        for name, file in files.items():
            _log_image(self._opened, f"samples/{name}", file, step)

    def finish(self) -> None:
        """Send what is left and close."""
        self._opened.finish()


def open_tracker(name: str, run: Path, settings: Mapping[str, Any], *, start: int) -> Tracker:
    """Open a tracker for a run that goes on from `start` steps, and log its resolved settings once.

    Raises UsageError if the tracker refuses, say for want of an account.
    """
    ids = read_json(run / IDS_FILE) if (run / IDS_FILE).is_file() else {}
    is_new = name not in ids
    opened = _build(name, run, ids.get(name), start=start)
    # The caller writes files, so it is the first process; asking accelerate would need its state in every process.
    opened.main_process_only = False
    started = False
    try:
        opened.start()
        started = True
        if is_new:
            opened.store_init_configuration({key: _plain(value) for key, value in flatten(settings).items()})
    except Exception as error:  # noqa: BLE001 - each tracker has errors of its own
        if started:
            with contextlib.suppress(Exception):  # the first error says what is wrong
                opened.finish()
        raise UsageError(f"--tracker {name}: {' '.join(str(error).split())}; or leave --tracker out") from None
    if is_new:
        write_json(run / IDS_FILE, {**ids, name: _id_of(opened)})
    return Tracker(opened)


def _build(name: str, run: Path, known: str | None, *, start: int) -> GeneralTracker:
    label = f"{run.resolve().parent.name}/{run.resolve().name}"
    if name == "tensorboard":
        return TensorBoardTracker("tensorboard", run, purge_step=start + 1)
    if name == "wandb":
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        return WandBTracker(project, name=label, id=known or uuid.uuid4().hex, resume="allow", dir=str(run))
    if name == "trackio":
        return TrackioTracker(PROJECT, name=known or f"{label}-{uuid.uuid4().hex[:8]}", resume="allow", embed=False)
    if "MLFLOW_TRACKING_URI" in os.environ:
        return MLflowTracker(PROJECT, run_id=known, run_name=label)
    return _MLflowInRun(run, run_id=known, run_name=label)


class _MLflowInRun(MLflowTracker):
    """MLflow with its database and files in RUN/mlflow; it would put them into the working directory."""

    def __init__(self, run: Path, **options: Any) -> None:
        self._folder = (run / "mlflow").resolve()
        super().__init__(PROJECT, logging_dir=(self._folder / "artifacts").as_uri(), **options)

    def start(self) -> None:
        """Open the run in its own database; leave MLflow as it was if that fails."""
        import mlflow

        self._folder.mkdir(exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{self._folder / 'mlflow.db'}")
        try:
            super().start()
        except Exception:
            mlflow.set_tracking_uri(None)
            raise

    def finish(self) -> None:
        """End the run, and leave MLflow as it was: it keeps the place in this process's environment."""
        import mlflow

        try:
            super().finish()
        finally:
            mlflow.set_tracking_uri(None)


def _id_of(opened: GeneralTracker) -> str:
    if isinstance(opened, WandBTracker):
        return str(opened.run.id)
    if isinstance(opened, TrackioTracker):
        return str(opened.run.name)
    if isinstance(opened, MLflowTracker):
        return str(opened.active_run.info.run_id)
    return "tensorboard"


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _log_image(opened: GeneralTracker, name: str, file: Path, step: int) -> None:
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    if isinstance(opened, TensorBoardTracker):
        opened.log_images({name: pixels[None]}, step=step, dataformats="NHWC")
    elif isinstance(opened, WandBTracker):
        opened.log_images({name: [pixels]}, step=step)
    elif isinstance(opened, TrackioTracker):
        import trackio

        opened.log({name: trackio.Image(pixels)}, step=step)
    elif isinstance(opened, MLflowTracker):
        opened.log_artifact(str(file), "samples")

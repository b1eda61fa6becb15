"""For the tests of training loops: end a run at a step, ask it to stop, and compare what two runs wrote."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from lavit_core.files import read_json, write_json
from lavit_core.modeldir import METADATA_FILE
from lavit_core.rundir import TIMING_KEYS, read_metrics
from safetensors.torch import load_file

from lavit_trainkit import session
from lavit_trainkit.session import Session


class Killed(BaseException):
    """Stands for kill -9: nothing in the packages catches it."""


class Patch(Protocol):
    """The part of pytest's MonkeyPatch that is used here."""

    def setattr(self, target: object, name: str, value: object) -> None: ...


def kill_at_step(patch: Patch, calls: int) -> None:
    """Raise Killed at the end of a loop's step number `calls` from now: logged, and without a checkpoint."""
    original, left = Session.should_save, calls

    def should_save(self: Session, done: int, **arguments: Any) -> bool:
        nonlocal left
        left -= 1
        if left <= 0:
            raise Killed
        return original(self, done, **arguments)

    patch.setattr(Session, "should_save", should_save)


def stop_at_step(patch: Patch, calls: int) -> None:
    """Ask a loop to stop at the end of step number `calls` from now, as a signal would."""
    looks = 0

    def asked() -> bool:
        nonlocal looks
        looks += 1
        return looks >= calls

    @contextlib.contextmanager
    def signals() -> Iterator[Callable[[], bool]]:
        yield asked

    patch.setattr(session, "stop_signals", signals)


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """Return a run's rows without the metrics that depend on the machine's speed and memory."""
    return [{key: value for key, value in row.items() if key not in TIMING_KEYS} for row in read_metrics(run)]


def have_equal_weights(one: Path, other: Path) -> bool:
    """Return whether the safetensors files below two folders have the same names and tensors, to the last bit."""
    files = [sorted(file.relative_to(folder) for file in folder.rglob("*.safetensors")) for folder in (one, other)]
    if not files[0] or files[0] != files[1]:
        return False
    for name in files[0]:
        left, right = load_file(one / name), load_file(other / name)
        if left.keys() != right.keys() or not all(torch.equal(left[key], right[key]) for key in left):
            return False
    return True


def forget_sizes(model: Path) -> None:
    """Drop the sizes of files from a model's lavit.json, as in models of older versions: only readers check then."""
    file = model / METADATA_FILE
    metadata = read_json(file)
    metadata.pop("sha256", None)  # of its own content
    for part in metadata["parts"].values():
        part.pop("files", None)
    write_json(file, metadata)

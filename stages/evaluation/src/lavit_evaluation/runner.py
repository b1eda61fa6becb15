"""The one runner: a run directory, answers kept as they are made, score.json, DONE; the same call goes on after a kill.

A benchmark is a name, its items, what it asks of a model, and its score. `Evaluation.score` is an ordinary function
from top to bottom: it asks through the session (`session.ask(items, answer, store)`) and returns score.json's content.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lavit_core.errors import Interrupted
from lavit_core.files import write_json
from lavit_core.interrupt import stop_signals
from lavit_core.progress import Progress
from lavit_core.rundir import open_run

from lavit_evaluation.stores import AnswerLog, Arrays, Memory, Store

K = TypeVar("K")
T = TypeVar("T")

SCORE_FILE = "score.json"
UNFINISHED = "unfinished"
"""Folder of a run directory with what only a resumed run needs; it is deleted once the run is finished."""


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How a benchmark is computed. A resumed run may change all but the precision, which belongs to its settings."""

    batch_size: int = 32
    """Items handled at once."""
    device: str = "auto"
    precision: str = "auto"
    """Of the model's weights; a benchmark that runs a model records it."""
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a running benchmark asks through."""

    command: str
    stop: Callable[[], bool]
    quiet: bool
    unfinished: Path | None = None
    """Folder of what only a resumed run needs; None keeps nothing."""

    def row_store(self, name: str) -> Store | None:
        """Return a store of JSON objects for the time of the run; None without a run directory."""
        return None if self.unfinished is None else AnswerLog(self.unfinished / f"{name}.jsonl")

    def array_store(self, name: str) -> Store | None:
        """Return a store of dictionaries of arrays for the time of the run; None without a run directory."""
        return None if self.unfinished is None else Arrays(self.unfinished / name)

    def ask(
        self, items: Mapping[K, T], answer: Callable[[list[T]], Iterable[Any]], store: Store | None = None, *,
        batch_size: int, unit: str, part: str = "",
    ) -> Iterable[Any]:  # fmt: skip
        """Answer every item that the store lacks, batch by batch, and return what the store holds of all, in order.

        `answer` is not called when nothing is missing, so it may load the model. `part` names this of several steps.
        Raises Interrupted at a stop signal.
        """
        kept = Memory() if store is None else store
        keys, title = list(items), f"{self.command}, {part}" if part else self.command
        missing = kept.missing(keys)
        done = len(keys) - len(missing)
        with Progress(title, len(keys), unit=unit, start=done, quiet=self.quiet or not missing) as progress:
            for start in range(0, len(missing), batch_size):
                if self.stop():
                    end = "start over" if store is None else "go on"
                    so_far = f"{done + start} of {len(keys)} {unit}s"
                    raise Interrupted(f"{title}: stopped after {so_far}; run the same command to {end}")
                batch = missing[start : start + batch_size]
                kept.add(batch, answer([items[key] for key in batch]))
                progress.advance(len(batch))
        return kept.read(keys)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of one model: what identifies it, and how it is scored."""

    command: str
    """The command as the run directory records it."""
    settings: Mapping[str, Any]
    """Everything that changes the score; recorded, and refused when it differs in a resumed run."""
    inputs: Mapping[str, str]
    """Digests of model and data."""
    score: Callable[[Session], dict[str, Any]]
    """Asks the model and returns the content of score.json."""
    is_current: Callable[[dict[str, Any]], bool] = lambda done: True
    """Whether a finished run's score still is the answer; otherwise `score` is called again."""
    file: str | None = SCORE_FILE
    """The file that the result is written to, if any."""


def run(evaluation: Evaluation, out: Path | None, *, quiet: bool = False) -> dict[str, Any]:
    """Run a benchmark into a run directory (`out` None: into none) and return its score.

    A finished run is answered from its record, a killed one goes on where it stood. Raises UsageError when `out`
    belongs to a run with other settings or inputs, Interrupted at a stop signal.
    """
    with contextlib.ExitStack() as stack:
        opened = None
        if out is not None:
            record = {"config": evaluation.settings, "inputs": evaluation.inputs}
            opened = stack.enter_context(open_run(out, command=evaluation.command, **record))
            if opened.done is not None and evaluation.is_current(opened.done):
                if evaluation.file is not None and not (out / evaluation.file).exists():
                    write_json(out / evaluation.file, opened.done)
                return opened.done
        stop = stack.enter_context(stop_signals())
        unfinished = None if out is None else out / UNFINISHED
        session = Session(command=evaluation.command, stop=stop, quiet=quiet, unfinished=unfinished)
        result = evaluation.score(session)
        if opened is not None:
            if evaluation.file is not None:
                write_json(opened.path / evaluation.file, result)
            opened.finish(result)
            shutil.rmtree(opened.path / UNFINISHED, ignore_errors=True)
        return result


def is_finished(out: Path | None) -> bool:
    """Return whether a run directory holds a finished run, which needs no model to be answered."""
    return out is not None and (out / "DONE").exists()

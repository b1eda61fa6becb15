"""An evaluation from open to finish, as a benchmark sees it: answers are kept as they are made, and nothing calls back.

with evaluation_session(out, command=..., settings=..., inputs=...) as session:
    if session.finished:
        return session.finished
    ...                                       # open the model
    rows = session.ask(items, answer, store)  # the store's answers, and `answer` for the items that it lacks
    ...                                       # score the rows
    return session.finish(result)

The same call goes on after a kill.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lavit_core.errors import Interrupted
from lavit_core.files import write_json
from lavit_core.interrupt import stop_signals
from lavit_core.progress import Progress
from lavit_core.rundir import Run, open_run

from lavit_evaluation.stores import AnswerLog, Arrays, Memory, Store

K = TypeVar("K")
T = TypeVar("T")

SCORE_FILE = "score.json"
UNFINISHED = "unfinished"
"""Folder of a run directory with what only a resumed run needs; it is deleted once the run is finished."""


class EvaluationSession:
    """An open evaluation. Made by `evaluation_session`."""

    def __init__(self, run: Run | None, command: str, asked_to_stop: Callable[[], bool], *, quiet: bool) -> None:
        self.run, self.command, self.quiet = run, command, quiet
        """`run` is None where nothing is kept."""
        self._asked_to_stop = asked_to_stop

    @property
    def finished(self) -> dict[str, Any] | None:
        """The result of a run that was finished before, else None."""
        return None if self.run is None else self.run.done

    def row_store(self, name: str) -> Store | None:
        """Return a store of JSON objects for the time of the run; None without a run directory."""
        return None if self.run is None else AnswerLog(self.run.path / UNFINISHED / f"{name}.jsonl")

    def array_store(self, name: str) -> Store | None:
        """Return a store of dictionaries of arrays for the time of the run; None without a run directory."""
        return None if self.run is None else Arrays(self.run.path / UNFINISHED / name)

    def ask(
        self, items: Mapping[K, T], answer: Callable[[list[T]], Iterable[Any]], store: Store | None = None, *,
        batch_size: int, unit: str, part: str = "", whole: bool = False,
    ) -> Iterable[Any]:  # fmt: skip
        """Answer every item that the store lacks, batch by batch, and return what the store holds of all, in order.

        `answer` is not called when nothing is missing: a model that loads its parts when they are used loads none.
        `part` names this of several steps. With `whole` batches are cut from all items, and one of which an answer is
        missing is answered whole: a resumed run then has the batches of an uninterrupted one.
        Raises Interrupted at a stop signal.
        """
        kept = Memory() if store is None else store
        keys, title = list(items), f"{self.command}, {part}" if part else self.command
        missing = kept.missing(keys)
        if whole:
            lacking = set(missing)
            cuts = (keys[start : start + batch_size] for start in range(0, len(keys), batch_size))
            missing = [key for batch in cuts if lacking.intersection(batch) for key in batch]
        done = len(keys) - len(missing)
        with Progress(title, len(keys), unit=unit, start=done, quiet=self.quiet or not missing) as progress:
            for start in range(0, len(missing), batch_size):
                if self._asked_to_stop():
                    end = "start over" if store is None else "go on"
                    so_far = f"{done + start} of {len(keys)} {unit}s"
                    raise Interrupted(f"{title}: after {so_far}; run the same command to {end}")
                batch = missing[start : start + batch_size]
                kept.add(batch, answer([items[key] for key in batch]))
                progress.advance(len(batch))
        return kept.read(keys)

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write score.json, mark the run as finished, and return its result."""
        if self.run is not None:
            _write_score(self.run.path, result)
            self.run.finish(result)
            shutil.rmtree(self.run.path / UNFINISHED, ignore_errors=True)
        return result


@contextlib.contextmanager
def evaluation_session(
    out: Path | None, *, command: str, settings: Mapping[str, Any], inputs: Mapping[str, str], quiet: bool = False,
    formerly: str | None = None,
) -> Iterator[EvaluationSession]:  # fmt: skip
    """Open a run directory (`out` None: nothing is kept) and listen for SIGINT and SIGTERM.

    `settings` are all that change the score, `inputs` the digests of model and data. A run that was begun when the
    command was called `formerly` goes on under that name. Raises UsageError when `out`
    belongs to a run with others, InputError when it is in use.
    """
    with contextlib.ExitStack() as stack:
        run = None
        if out is not None:
            recorded = formerly if formerly and _was_begun_as(out, formerly) else command
            run = stack.enter_context(open_run(out, command=recorded, config=settings, inputs=inputs))
            if run.done is not None and not (out / SCORE_FILE).exists():
                _write_score(out, run.done)
        yield EvaluationSession(run, command, stack.enter_context(stop_signals()), quiet=quiet)


def _was_begun_as(out: Path, command: str) -> bool:
    file = out / "config.yaml"
    return file.is_file() and f"command: {command}" in file.read_text(encoding="utf-8").splitlines()


def _write_score(out: Path, result: dict[str, Any]) -> None:
    if "figures" in result:  # `fid-stats` makes statistics, no score
        write_json(out / SCORE_FILE, result)


def is_finished(out: Path | None) -> bool:
    """Return whether a run directory holds a finished run, which needs no model to be answered."""
    return out is not None and (out / "DONE").exists()

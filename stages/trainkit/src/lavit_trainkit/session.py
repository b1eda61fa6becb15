"""A training run from open to finish, as a loop sees it: state is handed over, and nothing here calls the loop back.

with training_session(out, command=..., config=..., inputs=..., num_steps=...) as session:
    if session.finished:
        return session.finished
    ...                                      # build the network and its optimisers
    if checkpoint := session.resume():
        ...                                  # load checkpoint.tensors and checkpoint.state
    for step in range(session.start, num_steps):
        ...                                  # one step; its number once it is done is step + 1
        session.log(step + 1, "train", row)
        if session.should_show(step + 1):
            with unchanged(network):         # lavit_trainkit.samples
                session.show(step + 1, sheets)
        if session.should_save(step + 1, every=...):
            session.save(step + 1, tensors, state)
    ...                                      # export the model where session.writes
    return session.finish(summary)
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lavit_core.config import Config
from lavit_core.follow import UNFOLLOWED, FollowOptions
from lavit_core.interrupt import stop_signals
from lavit_core.progress import note
from lavit_core.rundir import Diagnostic, Run
from torch import Tensor

from lavit_trainkit.checkpoint import Checkpoint, load_newest, save_checkpoint
from lavit_trainkit.distributed import any_process, open_shared_run
from lavit_trainkit.samples import Sheets, write_sheets
from lavit_trainkit.stopping import stopped
from lavit_trainkit.tracker import Tracker, open_tracker


class Session:
    """An open training run, in each of its processes. Made by `training_session`."""

    def __init__(
        self,
        run: Run,
        asked_to_stop: Callable[[], bool],
        num_steps: int,
        *,
        follow: FollowOptions = UNFOLLOWED,
        settings: Mapping[str, Any] | None = None,
        quiet: bool = False,
    ) -> None:
        self.run, self.num_steps, self.quiet = run, num_steps, quiet
        self._follow, self._settings = follow, settings or {}
        self._tracker: Tracker | None = None
        self.start = 0
        """Steps that are done already; set by `resume`."""
        self.is_stopping = False
        """Whether a process was asked to stop when `should_save` last looked: then `save` ends the run."""
        self._asked_to_stop = asked_to_stop

    @property
    def finished(self) -> dict[str, Any] | None:
        """The summary of a run that was finished before, else None."""
        return self.run.done

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.run.path

    @property
    def model(self) -> Path:
        """The model directory that the run exports to."""
        return self.run.path / "model"

    @property
    def writes(self) -> bool:
        """Whether this process writes files: the first one does."""
        return self.run.writes

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows logged so far, those before a restart included."""
        return self.run.rows

    def resume(self) -> Checkpoint | None:
        """Return the newest valid checkpoint, or None; set `start`, drop the rows that were logged after it, and open
        the tracker. Raises UsageError if that refuses."""
        checkpoint = load_newest(self.run.checkpoints)
        self.start = checkpoint.step if checkpoint else 0
        self.run.rewind(self.start)
        if self._follow.tracker and self.writes:
            self._tracker = open_tracker(self._follow.tracker, self.path, self._settings, start=self.start)
        if checkpoint:
            note(f"{self.path}: resuming from step {self.start} of {self.num_steps}", quiet=self.quiet)
        return checkpoint

    def log(self, done: int, phase: str, row: Mapping[str, Any]) -> None:
        """Append a row of metrics after `done` steps."""
        self.run.log({"step": done, "phase": phase, **row})
        if self._tracker:
            self._tracker.log(self.run.rows[-1])

    def should_show(self, done: int) -> bool:
        """Return whether this process is to `show` samples after `done` steps: each so many, and after the last."""
        every = self._follow.sample_every
        return self.writes and every is not None and (done % every == 0 or done == self.num_steps)

    def show(self, done: int, sheets: Sheets) -> None:
        """Write sheets of sample images to the run directory, and to the tracker."""
        files = write_sheets(self.path, done, sheets)
        if self._tracker:
            self._tracker.log_images(done, files)

    def warn(self, done: int, phase: str, findings: Iterable[Diagnostic]) -> None:
        """Report each finding on stderr and in warnings.jsonl, once a run and kind."""
        self.run.warn(findings, step=done, phase=phase)

    def should_save(self, done: int, *, every: int, at_end: bool = True) -> bool:
        """Return whether to `save` after `done` steps: each `every` steps, and when a process was asked to stop.

        All processes must call it, once a step. `at_end` is False where the last step needs no checkpoint.
        """
        self.is_stopping = self._asked_to_stop()
        return self.is_stopping or (done % every == 0 and (at_end or done < self.num_steps))

    def save(
        self, done: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any] | None = None
    ) -> None:
        """Write a checkpoint after `done` steps; raise Interrupted then if the run `is_stopping`."""
        save_checkpoint(self.run.checkpoints, done, tensors, state)
        if self.is_stopping:
            raise stopped(self.run.path, done, self.num_steps)

    def close(self) -> None:
        """Send what the tracker still holds."""
        if self._tracker:
            self._tracker.finish()

    def finish(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Mark the run as finished and return its summary."""
        self.run.finish(summary)
        return summary


@contextlib.contextmanager
def training_session(
    out: Path,
    *,
    command: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    num_steps: int,
    settings: type[Config] | None = None,
    follow: FollowOptions = UNFOLLOWED,
    quiet: bool = False,
) -> Iterator[Session]:
    """Open a run directory in all processes (see `lavit_core.rundir.open_run`) and listen for SIGINT and SIGTERM.

    Raises UsageError when `out` belongs to a run with other settings or inputs, InputError when it is in use.
    """
    with (
        open_shared_run(out, command=command, config=config, inputs=inputs, settings=settings) as run,
        stop_signals() as asked,
    ):
        if run.done:
            note(f"{out}: already finished", quiet=quiet)
        session = Session(run, any_process(asked), num_steps, follow=follow, settings=config, quiet=quiet)
        try:
            yield session
        finally:
            session.close()

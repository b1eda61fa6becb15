"""Requests that wait for the model: those of one group share a batch, which one thread computes.

The oldest request decides which group is next, so none waits for ever. A request whose client has gone is left out of
the next batch; a batch of which nobody waits any more ends at its next step.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lavit_core.errors import LavitError

from lavit_serve.work import Report, Step, Work, group_of, rows_of

Compute: TypeAlias = Callable[[Sequence[Work], Report], list[Any]]
"""Returns the results of works of one group."""


AFTER_BATCH, MOST_AFTER_BATCH = 0.1, 1.0
"""Share of a batch's time, and most seconds, that the next of its group waits for clients who were just answered: a
tenth fills batches as well as a fifth does (`stages/serve/benchmarks/clients.py`)."""


class _AbandonedError(Exception):
    """Nobody waits for this batch any more."""


@dataclass(eq=False, kw_only=True)
class _Job:
    """One work, who waits for it and who is told of its progress."""

    work: Work
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[Any]
    on_step: Callable[[Step], None] | None
    gone: bool = False
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.rows = rows_of(self.work)

    def finish(self, result: Any, error: BaseException | None) -> None:
        """Hand the result to the event loop, unless nobody waits there any more."""

        def hand_over() -> None:
            if self.result.done():
                return
            if error is not None:
                self.result.set_exception(error)
            else:
                self.result.set_result(result)

        self._call(hand_over)

    def report(self, step: Step) -> None:
        """Tell the event loop about a step."""
        if self.on_step is not None:
            on_step = self.on_step
            self._call(lambda: None if self.result.done() else on_step(step))

    def _call(self, function: Callable[[], None]) -> None:
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed: the process ends
            self.gone = True


class Batcher:
    """A thread that computes works in batches of at most `max_rows` images or texts (a larger work is one alone)."""

    def __init__(
        self, compute: Compute, *, max_rows: int, wait_seconds: float, observe: Callable[[int], None] | None = None,
        observe_waiting: Callable[[int], None] | None = None, after_batch: float = AFTER_BATCH,
    ) -> None:  # fmt: skip
        """`observe` is told the rows of each batch, `observe_waiting` the works that wait when that changes."""
        self._compute, self._max_rows, self._wait_seconds = compute, max_rows, wait_seconds
        self._observe, self._observe_waiting = observe, observe_waiting
        self._after_batch = after_batch
        self._expected: tuple[Any, int] | None = None
        """A group, and how many of its works are likely to wait by `_expected_until`."""
        self._expected_until = 0.0
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="lavit-batches", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the batch in hand ends at its next step, what waits is never computed."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive() and not self._stopping

    @property
    def waiting(self) -> int:
        """Number of works that no batch has taken yet."""
        return len(self._jobs)

    async def submit(self, work: Work, on_step: Callable[[Step], None] | None = None) -> Any:
        """Return a work's result; cancelling the caller takes the work back. Raises what the computation raises."""
        loop = asyncio.get_running_loop()
        job = _Job(work=work, loop=loop, result=loop.create_future(), on_step=on_step)
        with self._changed:
            self._jobs.append(job)
            self._tell_waiting()
            self._changed.notify_all()
        try:
            return await job.result
        finally:
            job.gone = True

    def _work(self) -> None:
        while batch := self._next_batch():
            if self._observe is not None:
                self._observe(sum(job.rows for job in batch))
            self._run(batch)

    def _next_batch(self) -> list[_Job]:
        """Wait for the oldest work and those of its group; [] when the thread is to end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._stopping or self._drop_gone())
                self._wait_for_more()
                if self._stopping:
                    return []
                if self._drop_gone():
                    break
            chosen = [self._jobs[0]]
            group, rows = group_of(chosen[0].work), chosen[0].rows
            for job in list(self._jobs)[1:]:
                if rows + job.rows <= self._max_rows and group_of(job.work) == group:
                    chosen.append(job)
                    rows += job.rows
            self._jobs = deque(job for job in self._jobs if job not in chosen)
            self._tell_waiting()
            return chosen

    def _tell_waiting(self) -> None:
        if self._observe_waiting is not None:
            self._observe_waiting(len(self._jobs))

    def _wait_for_more(self) -> None:
        until = time.monotonic() + self._wait_seconds
        while not self._stopping and sum(job.rows for job in self._jobs) < self._max_rows:
            if not self._changed.wait(max(until - time.monotonic(), 0)):
                break
        # Clients who ask for one thing after another would otherwise stay in two halves that take turns.
        while not self._stopping and self._others_are_expected():
            if not self._changed.wait(max(self._expected_until - time.monotonic(), 0)):
                break

    def _others_are_expected(self) -> bool:
        """Tell whether more works of the next batch's group are likely, with room for them, and nobody else waits."""
        if self._expected is None or not self._drop_gone():
            return False
        group, count = self._expected
        if any(group_of(job.work) != group for job in self._jobs):
            return False
        waiting = self._waiting_of(group)
        return len(waiting) < count and sum(job.rows for job in waiting) < self._max_rows

    def _waiting_of(self, group: Any) -> list[_Job]:
        return [job for job in self._jobs if not job.gone and group_of(job.work) == group]

    def _expect(self, batch: Sequence[_Job], seconds: float) -> None:
        """Note who is likely to wait soon; before the batch is answered, so that nobody is counted twice."""
        with self._changed:
            group = group_of(batch[0].work)
            answered = [job for job in batch if not job.gone]
            self._expected = (group, len(answered) + len(self._waiting_of(group)))
            self._expected_until = time.monotonic() + min(self._after_batch * seconds, MOST_AFTER_BATCH)

    def _drop_gone(self) -> bool:
        """Forget works that nobody waits for; return whether others are left."""
        self._jobs = deque(job for job in self._jobs if not job.gone)
        self._tell_waiting()
        return bool(self._jobs)

    def _run(self, batch: Sequence[_Job]) -> None:
        def report(place: int, step: Step) -> None:
            if self._stopping or all(job.gone for job in batch):
                raise _AbandonedError
            batch[place].report(step)

        began = time.monotonic()
        try:
            results = self._compute([job.work for job in batch], report)
        except _AbandonedError:
            return
        # Whatever goes wrong in a batch goes to those who wait for it; the thread lives on.
        except Exception as error:  # noqa: BLE001
            self._fail(batch, error)
        else:
            self._expect(batch, time.monotonic() - began)
            for job, result in zip(batch, results, strict=True):
                job.finish(result, None)

    def _fail(self, batch: Sequence[_Job], error: Exception) -> None:
        """Compute the halves of a failed batch, until the work that fails is alone: it must not harm its neighbours."""
        if len(batch) == 1:
            # The trace would hold the batch's tensors for as long as the error lives.
            batch[0].finish(None, error.with_traceback(None) if isinstance(error, LavitError) else error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if remaining := [job for job in half if not job.gone]:
                self._run(remaining)

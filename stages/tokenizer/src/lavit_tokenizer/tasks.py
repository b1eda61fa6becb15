"""Tasks that fill one token directory at the same time, on machines that share its disk, and what each may touch.

    .lock             shared by all tasks; one process alone holds it exclusively
    .tasks.lock       held for a moment, by whoever opens or finishes the directory
    journal/          one file and one lock a task; gone when the directory is finished

Shard s belongs to task s modulo the number of tasks. The last task that is done finds all shards there and finishes
the directory; if it was killed first, any task that is started again does.
"""

import contextlib
import dataclasses
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from lavit_core.errors import InputError, UsageError
from lavit_core.file_lock import EXCLUSIVE, is_locked, short_lock, wait_for_lock
from lavit_core.rundir import TASKS_LOCK_FILE
from lavit_core.token_journal import journal_folder, make_journal_folder

TURN_SECONDS = 86400.0
"""Longest wait for a turn: the first task reads the data, the others what it has written of it."""

RESTART_SECONDS = 5.0
"""Longest wait for a task's lock: decoding processes of a task that was killed hold it a moment longer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One of `of` tasks."""

    number: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.of:
            raise UsageError(f"--task-id {self.number}: expected 0 .. {self.of - 1} (--num-tasks {self.of})")

    def __str__(self) -> str:
        return f"task {self.number} of {self.of}"

    @property
    def alone(self) -> bool:
        """Whether this process makes all shards."""
        return self.of == 1

    def shards(self, num_shards: int) -> range:
        """Return the numbers of this task's shards."""
        return range(self.number, num_shards, self.of)

    def journal(self, out: Path) -> Path:
        """Return the file that this task appends to."""
        return journal_folder(out) / f"task-{self.number:05d}-of-{self.of:05d}.jsonl"

    def lock(self, out: Path) -> Path:
        """Return the file that this task locks while it works."""
        return self.journal(out).with_suffix(".lock")


@contextlib.contextmanager
def turn(out: Path, task: Task) -> Iterator[None]:
    """Be the only task that opens or finishes the directory."""
    if task.alone:
        yield
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: can't be a run directory ({error.strerror}); give another --out") from None
    with short_lock(out / TASKS_LOCK_FILE, seconds=TURN_SECONDS):
        yield


def start_task(out: Path, task: Task) -> contextlib.ExitStack:
    """Take the task's lock, until the result is closed; call it in this task's turn.

    Raises InputError if the task is running already, or if tasks of another number of tasks are.
    """
    make_journal_folder(out)
    held = contextlib.ExitStack()
    if task.alone:
        sweep(out, task)
        return held
    file = held.enter_context(open(task.lock(out), "a"))  # noqa: SIM115 - closed with `held`
    if not wait_for_lock(file, EXCLUSIVE, seconds=RESTART_SECONDS):
        held.close()
        raise InputError(f"{out}: {task} is running already; wait for it or stop it")
    if others := [other for other in running_tasks(out, task) if other.of != task.of]:
        held.close()
        raise InputError(f"{out}: {others[0]} is running; give --num-tasks {others[0].of} too, or wait for it")
    sweep(out, task)
    return held


def temporary_shard(out: Path, name: str) -> Path:
    """Return a name for a shard while it is written; nobody else ever has the same, not even who should be dead."""
    return journal_folder(out) / f".{name}.{uuid.uuid4().hex}.tmp"


def sweep(out: Path, task: Task) -> None:
    """Remove what a kill left of the task's shards that were being written."""
    for file in journal_folder(out).glob(".shard-*.tmp"):
        number = re.match(r"\.shard-(\d+)", file.name)
        if number is not None and int(number[1]) % task.of == task.number:
            file.unlink(missing_ok=True)


def running_tasks(out: Path, task: Task) -> list[Task]:
    """Return the other tasks that are running."""
    found = []
    for file in sorted(journal_folder(out).glob("task-*.lock")):
        numbers = re.fullmatch(r"task-(\d+)-of-(\d+)", file.stem)
        # Not its own: closing a file lets go of its lock on some network file systems.
        if numbers is not None and file != task.lock(out) and is_locked(file):
            found.append(Task(number=int(numbers[1]), of=int(numbers[2])))
    return found

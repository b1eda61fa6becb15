"""A run directory explains itself: config.yaml, run.json, metrics.jsonl, warnings.jsonl, checkpoints/, DONE.

The same command resumes.
"""

import contextlib
import dataclasses
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lavit_core import distributions
from lavit_core.config import Config
from lavit_core.errors import InputError, UsageError
from lavit_core.file_lock import EXCLUSIVE, SHARED, wait_for_lock
from lavit_core.files import read_json, write_json, write_text
from lavit_core.json_lines import append_json_lines, read_json_lines, write_json_lines
from lavit_core.progress import warn
from lavit_core.run_record import with_new_settings, write_finished
from lavit_core.token_format import JOURNAL_FOLDER

CONFIG_FILE, METRICS_FILE, WARNINGS_FILE = "config.yaml", "metrics.jsonl", "warnings.jsonl"

TIMING_KEYS = frozenset({"seconds", "per_second", "peak_memory_bytes", "cpu_seconds"})
"""Keys of a metrics row that measure the machine; all others are equal in a resumed and an uninterrupted run."""


TASKS_LOCK_FILE = ".tasks.lock"
"""Lock that those who share a directory take for a moment."""

_RECORD = frozenset({".lock", TASKS_LOCK_FILE, "run.json", CONFIG_FILE, "checkpoints", JOURNAL_FOLDER})
"""What a run directory holds before the run has made anything: no checkpoint, and no line in a journal."""

MOST_NAMED = 4
"""Differing settings that an error names; a --config left off would be dozens."""


RESTART_SECONDS = 2.0
"""Longest wait for the lock of a process that was killed: what it had just started may hold it a moment longer."""

SETUP_SECONDS = 30.0
"""Longest wait for another process that makes the record of a shared run."""


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something in a run's metrics that a person should know."""

    kind: str
    """The subject in a word or two; a run warns of each kind once."""
    message: str
    """One line: what was seen, why it matters, what to change."""


class Run:
    """An open run directory. Made by `open_run`; holds no training state."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        """`writes` is False in all processes of torchrun but the first."""
        self.checkpoints = path / "checkpoints"
        self._metrics = path / METRICS_FILE
        self._warnings = path / WARNINGS_FILE
        self.rows = read_metrics(path)
        """The rows of metrics.jsonl so far. Monitors read only these, so a resumed run reports the same."""
        self._warned = {row["kind"] for row in read_warnings(path)}

    @property
    def done(self) -> dict[str, Any] | None:
        """Summary of the finished run, or None while it is unfinished."""
        file = self.path / "DONE"
        return read_json(file) if file.exists() else None

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one row to metrics.jsonl; `step` and `phase` say where the run stood."""
        self.rows.append(dict(row))
        if self.writes:
            append_json_lines(self._metrics, [row])

    def warn(self, diagnostics: Iterable[Diagnostic], *, step: int, phase: str) -> None:
        """Print each diagnostic on stderr and append it to warnings.jsonl, once a run and kind."""
        for diagnostic in diagnostics:
            if diagnostic.kind in self._warned or not self.writes:
                continue
            self._warned.add(diagnostic.kind)
            warn(f"{self.path}, step {step}: {diagnostic.message}")
            append_json_lines(self._warnings, [{"step": step, "phase": phase, **dataclasses.asdict(diagnostic)}])

    def rewind(self, step: int) -> None:
        """Drop rows and warnings after `step`: the steps after the checkpoint are run, and logged, again."""
        self.rows = [row for row in read_metrics(self.path) if row["step"] <= step]
        if not self.writes:
            return
        write_json_lines(self._metrics, self.rows)
        warned = [row for row in read_warnings(self.path) if row["step"] <= step]
        self._warned = {row["kind"] for row in warned}
        if self._warnings.exists():
            write_json_lines(self._warnings, warned)

    def record_input(self, name: str, digest: str) -> None:
        """Record that an input of the run has another digest now, because what changed in it was looked at."""
        record = _read_record(self.path / CONFIG_FILE)
        _write_record(self.path / CONFIG_FILE, {**record, "inputs": {**record["inputs"], name: digest}})

    def reopen(self) -> None:
        """Remove the mark of completion, because something that the run made is gone."""
        (self.path / "DONE").unlink()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Mark the run as complete, with its summary."""
        if self.writes:
            write_finished(self.path, summary)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl; a last line cut short by a kill is left out."""
    return read_json_lines(path / METRICS_FILE)


def read_warnings(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's warnings.jsonl: step, phase, kind and message of each."""
    return read_json_lines(path / WARNINGS_FILE)


@contextlib.contextmanager
def open_run(
    out: Path,
    *,
    command: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    shared: bool = False,
    settings: type[Config] | None = None,
) -> Iterator[Run]:
    """Create or reopen a run directory, alone; with `shared` together with others that say so.

    `config` holds the resolved settings, `inputs` the digests of what the run reads. With `settings`, their class, a
    setting that did not exist when the run began counts with its default.
    Raises UsageError, listing the differing keys, if the directory holds the results of a run with other settings or
    inputs; InputError if another process is working in it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        # For reading too: network file systems lock what is shared only so.
        lock = open(out / ".lock", "a+")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"{out}: can't be a run directory ({error.strerror}); give another --out") from None
    with lock:
        # Whoever comes first alone writes the record; those who share the directory find it there.
        wanted, seconds = ((EXCLUSIVE, SHARED), SETUP_SECONDS) if shared else ((EXCLUSIVE,), RESTART_SECONDS)
        held = wait_for_lock(lock, *wanted, seconds=seconds)
        if not held:
            raise InputError(f"{out}: another process is working here; wait for it or stop it")
        record = {"command": command, "config": dict(config), "inputs": dict(inputs)}
        file = out / CONFIG_FILE
        old = _read_record(file) if file.exists() else None
        if old is None and (out / "run.json").exists() and not _holds_only(out, _RECORD):
            raise InputError(
                f"{file}: missing, expected the settings of the run here; restore it or give another --out"
            )
        if old is not None and (held == SHARED or not _left_only_a_record(out, old)):
            _refuse_difference(out, with_new_settings(old, record, settings), record)
        else:
            # config.yaml comes last: it marks the directory as a run's.
            write_json(out / "run.json", {"argv": sys.argv, "versions": versions(), "git": _git_revision()})
            _write_record(file, record)
        run = Run(out)
        run.checkpoints.mkdir(exist_ok=True)
        if shared and not wait_for_lock(lock, SHARED, seconds=SETUP_SECONDS):
            raise InputError(f"{out}: another process is working here; wait for it or stop it")
        yield run


def versions() -> dict[str, str]:
    """Return the versions of Python, of the installed libraries whose behaviour reaches the results, and of lavit."""
    machine = {"python": platform.python_version(), "platform": platform.platform()}
    libraries = {name: found for name in distributions.LIBRARIES if (found := distributions.version(name))}
    return machine | libraries | distributions.installed()


def _git_revision() -> str | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        here = Path(__file__).parent
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5)
        return done.stdout.strip() or None
    return None


def recorded_inputs(out: Path) -> dict[str, str]:
    """Return the digests of what the run in `out` reads, none without a run. Raises InputError for a damaged record."""
    return _recorded(out, "inputs")


def recorded_settings(out: Path) -> dict[str, Any]:
    """Return the settings that the run in `out` was started with, none without a run.

    Raises InputError for a damaged record.
    """
    return _recorded(out, "config")


def _recorded(out: Path, name: str) -> dict[str, Any]:
    file = out / CONFIG_FILE
    found = _read_record(file).get(name) if file.is_file() else None
    return dict(found) if isinstance(found, dict) else {}


def _write_record(file: Path, record: Mapping[str, Any]) -> None:
    write_text(file, yaml.safe_dump(dict(record), sort_keys=False, allow_unicode=True))


def _read_record(file: Path) -> dict[str, Any]:
    try:
        record = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not valid YAML ({' '.join(str(error).split())}); give another --out") from None
    if not isinstance(record, dict):
        raise InputError(f"{file}: found {type(record).__name__}, expected a run's settings; give another --out")
    return record


def _left_only_a_record(out: Path, record: Mapping[str, Any]) -> bool:
    """Return whether a run ended before it made anything, say because its input was unusable: it may be replaced.

    A config.yaml that `open_run` did not write is not a record.
    """
    is_record = record.keys() == {"command", "config", "inputs"} and (out / "run.json").exists()
    return is_record and _holds_only(out, _RECORD)


def _holds_only(out: Path, names: frozenset[str]) -> bool:
    # What `files.atomic_file` was writing when a kill came.
    found = {entry.name for entry in out.iterdir() if not (entry.name.startswith(".") and entry.suffix == ".tmp")}
    return found <= names and not any(out.glob("checkpoints/*")) and not any(out.glob(f"{JOURNAL_FOLDER}/*.jsonl"))


def command_line(out: Path) -> str | None:
    """Return the `lavit` command line that started a run, from its run.json; None if it was started in another way."""
    argv = read_json(out / "run.json").get("argv") if (out / "run.json").is_file() else None
    if not argv or Path(argv[0]).name not in ("lavit", "__main__.py"):
        return None
    return shlex.join(["lavit", *argv[1:]])


def _refuse_difference(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    before, now = flatten(old), flatten(new)
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        first = changed[0]
        more = (
            [*changed[1:MOST_NAMED], f"{len(changed) - MOST_NAMED} more"] if len(changed) > MOST_NAMED else changed[1:]
        )
        others = f" (and {', '.join(more)})" if more else ""
        line = command_line(out)
        started = "" if line is None else f"; it was started with: {line}"
        raise UsageError(
            f"{out}: this run was started with {first} = {before.get(first)!r}, now it is {now.get(first)!r}{others}; "
            f"give another --out, or the same settings as before (its config.yaml lists them){started}"
        )


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one mapping, keys joined by dots.

    Items of a list of settings go by their names, or by their places where names miss or repeat; the list itself is
    that of these.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            names = [str(item.get("name", place)) for place, item in enumerate(value)]
            names = names if len(set(names)) == len(names) else [str(place) for place in range(len(names))]
            flat[prefix + key] = names
            value = dict(zip(names, value, strict=True))
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat

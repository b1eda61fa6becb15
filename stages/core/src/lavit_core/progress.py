"""Progress of a long job on stderr: a live bar on a terminal, a plain line every few seconds elsewhere.

Under torchrun only the first process writes.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from lavit_core.processes import is_main

LOADING = "loading the model ..."
"""What a command that uses a model shows at once: torch alone takes seconds to import."""


class Progress:
    """Counts units of work and shows rate, time left and the latest metrics. Use as a context manager."""

    def __init__(self, title: str, total: int, *, unit: str = "step", start: int = 0, quiet: bool = False) -> None:
        self.title, self.total, self.unit, self.quiet = title, total, unit, quiet or not is_main()
        self.done = self.start = start
        self._metrics: dict[str, Any] = {}
        self._began = self._printed = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
            self._bar = RichProgress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, completed=self.start, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and not self.quiet:
            self._print_line()

    @property
    def rate(self) -> float:
        """Units per second since this process started."""
        return (self.done - self.start) / max(time.monotonic() - self._began, 1e-9)

    def advance(self, count: int = 1, **metrics: float | int | str) -> None:
        """Count `count` more units and remember the metrics to show beside them."""
        self.done += count
        self._metrics.update(metrics)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, text=self._text())
        elif not self.quiet and time.monotonic() - self._printed > 5:
            self._print_line()

    def _text(self) -> str:
        shown = [f"{self.done}/{self.total} {self.unit}s", f"{self.rate:.1f} {self.unit}s/s"]
        for name, value in self._metrics.items():
            shown.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
        return "  ".join(shown)

    def _print_line(self) -> None:
        self._printed = time.monotonic()
        left = (self.total - self.done) / self.rate if self.rate > 0 else float("inf")
        eta = f"  {left:.0f} s left" if 0 < left < float("inf") else ""
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(f"{self.title}: {self._text()}{eta}\n")
            sys.stderr.flush()


def note(line: str, *, quiet: bool = False) -> None:
    """Print a line on stderr, in the first process alone, unless `quiet`."""
    if not quiet and is_main():
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


@contextlib.contextmanager
def waiting(line: str, *, quiet: bool = False) -> Iterator[None]:
    """Show a line on stderr while the block runs; a terminal forgets it afterwards."""
    if quiet or not is_main() or not sys.stderr.isatty():
        note(line, quiet=quiet)
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(line):
        yield


def warn(message: str) -> None:
    """Print a warning line on stderr."""
    note(f"warning: {message}")


@contextlib.contextmanager
def timed(title: str, *, quiet: bool = False) -> Iterator[None]:
    """Print on stderr how long the block took."""
    began = time.monotonic()
    yield
    note(f"{title}: {time.monotonic() - began:.1f} s", quiet=quiet)

"""Orderly stopping: the first SIGINT or SIGTERM requests a stop, the second one forces it."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from lavit_core.processes import num_processes


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Give a function that returns whether a stop was requested; a second signal raises KeyboardInterrupt at once.

    A loop that sees True saves its state and raises `errors.Interrupted` (exit 75). Under torchrun repeated signals
    count as one, because torchrun forwards a Ctrl-C that its processes have already received.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # Python delivers signals to the main thread only
        return
    requested = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested and num_processes() == 1:
            raise KeyboardInterrupt
        requested = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Orderly stopping: the first SIGINT or SIGTERM asks, the second one insists."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from lavit_core.processes import num_processes


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether a stop was asked for; a second signal raises KeyboardInterrupt at once.

    The loop that sees True saves its state and raises `errors.Interrupted` (exit 75). Under torchrun repeats count as
    one: it passes on the Ctrl-C that its processes got from the terminal already (and kills after --shutdown-timeout).
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # Python delivers signals to the main thread only
        return
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and num_processes() == 1:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

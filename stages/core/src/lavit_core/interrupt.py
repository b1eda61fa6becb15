"""Orderly stopping: the first SIGINT or SIGTERM requests a stop, the second one forces it."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from lavit_core.processes import num_processes

_asked: list[Callable[[], bool]] = []
"""The blocks of `stop_signals` that are open, innermost last."""


def stop_requested() -> bool:
    """Return whether a stop was requested of the block of `stop_signals` that is open; False outside of one.

    For long work before a loop's first step, which can't be handed the block's own function.
    """
    return bool(_asked) and _asked[-1]()


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
    _asked.append(lambda: requested)
    try:
        yield _asked[-1]
    finally:
        _asked.pop()
        for number, handler in before.items():
            signal.signal(number, handler)

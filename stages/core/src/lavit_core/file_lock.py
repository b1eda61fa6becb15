"""Locks on files (flock), which the kernel lets go of when their process ends, however it ends."""

import contextlib
import errno
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from lavit_core.errors import InputError
from lavit_core.progress import note, warn

EXCLUSIVE, SHARED = fcntl.LOCK_EX, fcntl.LOCK_SH

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
"""Error numbers of file systems without locks, say Lustre mounted without `flock`."""

_POLL_SECONDS = 0.05

_warned = False


def try_lock(file: TextIO, kind: int = EXCLUSIVE) -> bool:
    """Lock an open file and return True; False if another process holds a lock that does not go with it.

    A file system without locks warns once and answers True: nobody is there to say no.
    """
    global _warned
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise InputError(f"{file.name}: can't be locked ({error.strerror or error})") from None
        if not _warned:
            warn(f"{file.name}: this file system has no locks ({error.strerror}); start no command twice on one --out")
        _warned = True
    return True


def wait_for_lock(file: TextIO, *kinds: int, seconds: float) -> int:
    """Take the first of `kinds` that can be had, and return it; 0 if none can for so long."""
    until = time.monotonic() + seconds
    while True:
        for kind in kinds:
            if try_lock(file, kind):
                return kind
        if time.monotonic() >= until:
            return 0
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def short_lock(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold a lock file for a piece of work, waiting for others. Raises InputError if that takes too long."""
    with open(path, "a") as file:
        if not try_lock(file):
            note(f"{path}: waiting for another process ...")
        if not wait_for_lock(file, EXCLUSIVE, seconds=seconds):
            raise InputError(f"{path}: locked by another process for {seconds:.0f} s; run the same command again")
        yield


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock file exclusively; False if there is no such file."""
    try:
        with open(path) as file:
            return not try_lock(file, SHARED)
    except FileNotFoundError:
        return False

"""Warnings about images (Pillow's and ours), counted over a job instead of printed for each of a million images."""

import collections
import contextlib
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

KIND_CHARS = 120
"""Most characters of a kind of warning; some of Pillow's texts quote what is in the file."""


class ImageWarning(UserWarning):
    """Something beside an image's pixels is damaged and was left out."""


@contextlib.contextmanager
def count_image_warnings(counts: collections.Counter[str]) -> Iterator[None]:
    """Count warnings about images by their text instead of showing them; numbers in a text become `N`.

    Threads that are started inside count too. Python's filters are those of the whole process: one such context is open
    at a time, in the thread that starts the work.
    """
    lock = threading.Lock()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"PIL\.")
        warnings.filterwarnings("always", category=ImageWarning)
        shown = warnings.showwarning

        def count(message, category, filename, lineno, file=None, line=None):  # type: ignore[no-untyped-def]
            if issubclass(category, ImageWarning) or Path(filename).parent.name == "PIL":
                with lock:
                    counts[_kind(str(message))] += 1
            else:
                shown(message, category, filename, lineno, file, line)

        warnings.showwarning = count
        yield


def warning_lines(counts: collections.Counter[str]) -> list[str]:
    """Return one line a kind of warning, the commonest first: `3 times: Corrupt EXIF data ...`."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"{count} {'time' if count == 1 else 'times'}: {kind}" for kind, count in ordered]


def _kind(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+", "N", " ".join(text.split()))[:KIND_CHARS]

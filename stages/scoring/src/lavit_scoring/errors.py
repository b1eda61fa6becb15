"""Errors a user can act on: one line with the value found and the value expected, and an exit code."""

import json
from collections.abc import Sequence
from typing import Any

NAMES_SHOWN, LETTERS_SHOWN = 5, 60


class ScoringError(Exception):
    """The base of this package's errors; a command prints the line and exits with `exit_code`."""

    exit_code = 1


class UsageError(ScoringError):
    """An option or argument is wrong."""

    exit_code = 2


class InputError(ScoringError):
    """A given file or folder is missing, unreadable or of the wrong kind."""

    exit_code = 3


def shorten(value: Any) -> str:
    """Return a value as JSON, cut to what fits into a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LETTERS_SHOWN else f"{text[: LETTERS_SHOWN - 3]}..."


def some_names(names: Sequence[Any]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(str, names[:NAMES_SHOWN])) + more

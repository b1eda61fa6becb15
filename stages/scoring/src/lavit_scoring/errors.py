"""Errors a user can act on: one line, the value found, the value expected, and an exit code."""


class ScoringError(Exception):
    """The base of this package's errors; a command prints the line and exits with `exit_code`."""

    exit_code = 1


class UsageError(ScoringError):
    """An option or argument is wrong."""

    exit_code = 2


class InputError(ScoringError):
    """A given file or folder is missing, unreadable or of the wrong kind."""

    exit_code = 3

"""Errors for the user: one line with the value found, the value expected and the next command, and an exit code."""


class LavitError(Exception):
    """A failure the user can act on; the host prints its one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(LavitError):
    """The command line or a configuration value is wrong."""

    exit_code = 2


class InputError(LavitError):
    """A file, folder or model that was given is missing, unreadable or of the wrong kind."""

    exit_code = 3


class VerificationError(LavitError):
    """Content does not match its digest or its specification."""

    exit_code = 4


class ErrorBudgetExceeded(LavitError):
    """The job finished, but more inputs were skipped than `--max-error-rate` allows."""

    exit_code = 5


class Interrupted(LavitError):
    """The job was asked to stop, saved its state, and goes on when the same command is run again."""

    exit_code = 75

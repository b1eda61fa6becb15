"""The `lavit` command: finds the stages, composes them, reports what they made."""

__version__ = "0.1.0"

"""Empty words where a path is expected: an unset shell variable, which would be read as the current folder."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

MARK = "lavit-empty-word"
"""Stands for an empty word while the command line is parsed once, to see which parameter gets it."""


def empty_place(program: Any, arguments: Sequence[str]) -> str | None:
    """Return the option or argument of a command line that names a place and is given an empty one; None without."""
    marked = [word if word and not word.endswith("=") else word + MARK for word in arguments]
    if marked == list(arguments):
        return None
    command = program
    while marked and (inner := getattr(command, "commands", {}).get(marked[0])) is not None:
        command, marked = inner, marked[1:]
    if hasattr(command, "commands"):
        return None
    # Nothing is run: callbacks and errors are left for the parsing that counts.
    given = command.make_context("lavit", marked, resilient_parsing=True).params
    kinds = inspect.signature(command.callback).parameters
    for parameter in command.params:
        value = given.get(parameter.name)
        values = value if isinstance(value, list | tuple) else [value]
        if MARK in map(str, values) and _is_path(kinds[parameter.name].annotation):
            option = parameter.opts[0] if parameter.opts[0].startswith("-") else None
            return option or parameter.metavar or parameter.name.upper()
    return None


def _is_path(annotation: Any) -> bool:
    return annotation is Path or any(_is_path(part) for part in get_args(annotation))

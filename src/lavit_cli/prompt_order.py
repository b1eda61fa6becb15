"""The order of texts and pictures on a command line: parsing keeps the order of arguments and the order of an option's
values, but not how they stood among each other."""

from pathlib import Path
from typing import Any

import typer
import typer.core

WORDS = "lavit.words"


class Command(typer.core.TyperCommand):
    """A command that remembers the words it was given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and keep a copy: parsing empties the list."""
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)


def in_order(context: typer.Context, option: str) -> list[str | Path]:
    """Return a command's argument words (str) and the values of `option` (Path) in the order they were given."""
    # A flag's other name (--no-highres) stands apart from its names.
    options = {
        name: param
        for param in context.command.params
        for name in (*param.opts, *param.secondary_opts)
        if name.startswith("-")
    }
    words = iter(context.meta[WORDS])
    parts: list[str | Path] = []
    for word in words:
        if word == "--":
            return [*parts, *words]
        name, equals, value = word.partition("=")
        param: Any = options.get(name)
        if param is None:
            parts.append(word)
        elif not param.is_flag:
            value = value if equals else next(words)
            parts += [Path(value)] if name == option else []
    return parts

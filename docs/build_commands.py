"""Write docs/commands.md from the help of every command; with --check, fail if the page is out of date."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read by rich and typer when they are imported: the page must not depend on the terminal.
os.environ |= {"COLUMNS": "110", "TERMINAL_WIDTH": "110", "TERM": "dumb", "NO_COLOR": "1"}

from lavit_cli.main import main as lavit
from lavit_cli.plugins import build_command

PAGE = Path(__file__).with_name("commands.md")


def main() -> None:
    """Render the page; exit 1 with one line if --check finds a difference."""
    page = render()
    if "--check" not in sys.argv:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        raise SystemExit(f"{PAGE.name} is out of date; run `make docs` and commit it")


def render() -> str:
    """Return the Markdown page: the list of commands, then the help of each."""
    title = "# Commands\n\nWritten by `make docs` from the commands' own `--help`.\n"
    root = build_command([])
    return "\n".join([title, section(()), *(part for name in sorted(root.commands) for part in sections(name))])


def sections(name: str) -> Iterator[str]:
    """Yield the section of a command, or those of a group's commands; one with the options of another is a line."""
    group = build_command([name]).commands[name]
    shown: dict[object, str] = {}
    for inner, command in getattr(group, "commands", {}).items():
        options = tuple((*param.opts, param.help, repr(param.default)) for param in command.params)
        if options in shown:
            yield f"## `lavit {name} {inner}`\n\n{first_line(command)} Its options are those of `{shown[options]}`.\n"
        else:
            shown[options] = f"lavit {name} {inner}"
            yield section((name, inner))
    if not shown:
        yield section((name,))


def first_line(command: Any) -> str:
    """Return the first paragraph of a command's help on one line."""
    return " ".join(command.help.split("\n\n")[0].split())


def section(path: tuple[str, ...]) -> str:
    """Return the help of one command as a Markdown section."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        lavit([*path, "--help"])
    text = re.sub(r"[ \t]+$", "", out.getvalue(), flags=re.MULTILINE).strip("\n")
    return f"## `{' '.join(('lavit', *path))}`\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    main()

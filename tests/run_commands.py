"""What torchrun starts in the tests of several processes: command lines, one after another, in processes that stay.

Usage: run_commands.py LINES.json CODES.json: a list of argument lists, and where the first process notes exit codes.
"""

import json
import os
import sys
from pathlib import Path

from lavit_cli.main import main as command
from lavit_cli.main import run


def main(lines: Path, codes: Path) -> None:
    """Run the lines, one that fails as well as the others."""
    told: list[object] = []
    for arguments in json.loads(lines.read_text(encoding="utf-8")):
        try:
            told.append(run(arguments))
        except SystemExit as end:  # a process that leaves the telling to the first
            told.append(end.code)
        if os.environ.get("RANK", "0") == "0":
            codes.write_text(json.dumps(told), encoding="utf-8")


def leave(arguments: list[str]) -> None:
    """Run one command line as `lavit` does, and exit with its code; what it says is of no interest."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    command(arguments)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

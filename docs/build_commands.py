"""Write docs/commands.md from what each command says of itself; with --check, fail when the page is out of date."""

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

PAGE = Path(__file__).with_name("commands.md")
GROUPS = {
    "data": ("make-shapes", "inspect"),
    "tokens": ("inspect", "verify", "export"),
    # Of the benchmarks one of each kind: their options are the same.
    "eval": (
        "list",
        "score",
        "compare",
        "shapes",
        "probe",
        "vqav2",
        "coco-caption",
        "flickr30k-retrieval",
        "coco-fid",
        "fid-stats",
        "clip-score",
        "magicbrush",
    ),
}


def main() -> None:
    """Render the page; exit 1 with one line when --check finds a difference."""
    page = render()
    if "--check" not in sys.argv:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        raise SystemExit(f"{PAGE.name} is out of date; run `make docs` and commit it")


def render() -> str:
    """Return the Markdown page: the list of commands, then the help of each."""
    sections = ["# Commands\n\nWritten by `make docs` from the commands' own `--help`.\n", section(())]
    for name in sorted(entry.name for entry in entry_points(group="lavit.commands")):
        for path in [(name, inner) for inner in GROUPS.get(name, ())] or [(name,)]:
            sections.append(section(path))
    return "\n".join(sections)


def section(path: tuple[str, ...]) -> str:
    """Return one command's help as a Markdown section."""
    env = {**os.environ, "COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1", "TERMINAL_WIDTH": "110"}
    lavit = Path(sys.executable).with_name("lavit")
    done = subprocess.run([lavit, *path, "--help"], capture_output=True, text=True, check=True, env=env)
    text = re.sub(r"[ \t]+$", "", done.stdout, flags=re.MULTILINE).strip("\n")
    return f"## `{' '.join(('lavit', *path))}`\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    main()

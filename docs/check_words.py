"""Fail if a word is left that docs/glossary.md replaces; list where it stands."""

import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOOKED_AT = ("src", "stages", "tests", "examples", "docs", "README.md", "CONTRIBUTING.md")
SUFFIXES = (".py", ".md", ".html", ".toml", ".yaml")

HISTORY = ("docs/glossary.md", "docs/log.md", "docs/adr/", "docs/check_words.py")
"""Files that quote the words, or tell what was."""

ALLOWED = (
    r'["\'`](figures|pictures|picture)["\'`]|score\.figures',  # keys that are stored keep their names
    r"\b(token|random|fit|test)_pictures\b|\bpictures(: int|: Annotated|=\d|: \d)|config\.pictures\b",  # settings
    r"pictures_digest|--pictures\b|did you mean pictures|-picture\.png",  # of statistics, samples; an option's old name
    r'"(eval|random) pictures"|"drawn picture"',  # purposes of random draws: another name would draw other numbers
    r"</?fig(ure|caption)|\bclass=\"figure\"|^(td\.)?fig(ure|caption)\b",  # HTML and CSS
    r"\bFigure \d",  # of a paper
)
"""What stays in a line: it is cut out before words are looked for."""


def main() -> None:
    """List each word with its place; exit 1 if there is one."""
    words = not_used()
    counts: Counter[str] = Counter()
    for file in files():
        for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
            rest = re.sub("|".join(ALLOWED), "", line)
            for word, pattern in words.items():
                if found := len(pattern.findall(rest)):
                    counts[word] += found
                    sys.stdout.write(f"{file.relative_to(ROOT)}:{number}: {word}: {line.strip()}\n")
    if counts:
        raise SystemExit(f"words of docs/glossary.md to replace: {dict(counts.most_common())}")


def not_used() -> dict[str, re.Pattern[str]]:
    """Return the words of the glossary's second table with their patterns; parts of names count, other words do not."""
    table = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("\n## ")[2]
    rows = re.findall(r"^\| (.+?) \| .+ \|$", table, flags=re.MULTILINE)
    words = [row for row in rows if row != "not"]
    return {word: re.compile(rf"(?<![a-z]){word}s?(?![a-z])", 0 if " " in word else re.IGNORECASE) for word in words}


def files() -> list[Path]:
    """Return the files that are looked at."""
    found = [file for name in LOOKED_AT for file in ((ROOT / name).rglob("*") if "." not in name else [ROOT / name])]
    names = {file: file.relative_to(ROOT).as_posix() for file in sorted(found)}
    return [file for file, name in names.items() if name.endswith(SUFFIXES) and not name.startswith(HISTORY)]


if __name__ == "__main__":
    main()

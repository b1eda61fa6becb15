"""docs/reliability.md names tests: each of them exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_that_the_page_names_exists() -> None:
    rows = [row for row in (ROOT / "docs/reliability.md").read_text(encoding="utf-8").splitlines() if row[:2] == "| "]
    named = [name for row in rows for name in re.findall(r"`(test_\w+)`", row)]
    files = [*ROOT.glob("tests/test_*.py"), *ROOT.glob("stages/*/tests/test_*.py")]
    there = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.M)}
    assert len(named) > 50
    assert sorted(set(named) - there) == []
    for row in rows:
        assert re.search(r"`test_\w+`|Not covered|not covered|\| shown by \|", row), row

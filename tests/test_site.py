"""The documentation builds as a site in which every link leads somewhere, and which loads nothing from other hosts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADED = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\s\">]+)")


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path):
    command = [sys.executable, ROOT / "docs" / "build_site.py", tmp_path / "site"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    pages = {page.relative_to(tmp_path / "site").as_posix(): page for page in tmp_path.rglob("*.html")}
    assert {"index.html", "docs/data/index.html", "docs/tutorials/own-images/index.html"} <= pages.keys()
    assert "from_pretrained" in pages["docs/api/index.html"].read_text(encoding="utf-8")
    assert [name for name, page in pages.items() if LOADED.search(page.read_text(encoding="utf-8"))] == []

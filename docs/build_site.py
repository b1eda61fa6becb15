"""Build the documentation as a site that loads nothing from other hosts: `python docs/build_site.py [OUT]` (site/).

The pages are the Markdown of the repository where it lies, so that a link works in the repository and in the site. They
are copied because zensical refuses a folder that holds its own settings.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "mkdocs.yml"
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "docs/**/*.md",
    "docs/**/*.png",
    "docs/**/*.svg",
    "stages/**/README.md",
    "examples/**/*",
)


def main(out: Path) -> None:
    """Build the site; exit with zensical's code, which is 1 for a link that leads nowhere."""
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(Path(folder) / "site", out)


def build(place: Path) -> None:
    """Copy the pages to place/pages and build place/site of them."""
    for file in sorted({file for pattern in PAGES for file in ROOT.glob(pattern)}):
        if file.is_file() and not {"__pycache__", ".venv"} & set(file.parts) and ".template." not in file.name:
            copy = place / "pages" / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    shutil.copyfile(SETTINGS, place / SETTINGS.name)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(place / SETTINGS.name)]
    if code := subprocess.run(command, check=False).returncode:
        raise SystemExit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site")

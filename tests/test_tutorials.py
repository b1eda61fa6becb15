"""docs/tutorials: every block of every page runs as it stands, with the settings of the miniature behind its back."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commandline import MINI, environment
from PIL import Image
from released_folder import Geometry, write_images, write_language_model, write_pixels, write_visual

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SECTIONS = {
    "quickstart": None,
    "train-encoder": "encoder",
    "train-tokenizer": "tokenizer",
    "tokenize-images": "tokens",
    "pretrain": "pretrain",
    "train-detokenizer": "detokenizer",
}
"""Which part of mini.yaml holds the settings of a command; None: all of it."""

LAVIT = """#!/usr/bin/env bash
case "$1" in
  {names}) exec {python} -m lavit_cli "$@" --config {settings}/"$1".yaml ;;
  generate) exec {python} -m lavit_cli "$@" --num-steps 2 --set sample.min_codes=3 --set sample.max_codes=9 ;;
  import-checkpoint) exec {python} -m lavit_cli "$@" {heads} ;;
  *) exec {python} -m lavit_cli "$@" ;;
esac
"""
PYTHON = """#!/usr/bin/env bash
case "$1" in
  */flat.py) exec {python} {root}/"$@" --train 96 --heldout 32 ;;
  examples/*) exec {python} {root}/"$@" ;;
  *) exec {python} "$@" ;;
esac
"""


def place_commands(folder: Path) -> None:
    """Write `lavit` and `python` that run the real ones with small numbers."""
    geometry, settings = Geometry(), folder / "settings"
    settings.mkdir(parents=True)
    mini = yaml.safe_load(MINI.read_text(encoding="utf-8"))
    for command, name in SECTIONS.items():
        (settings / f"{command}.yaml").write_text(yaml.safe_dump(mini if name is None else mini[name]))
    about = {
        "python": sys.executable,
        "root": ROOT,
        "settings": settings,
        "names": "|".join(SECTIONS),
        "heads": f"--encoder-heads {geometry.encoder_heads} --heads {geometry.heads}",
    }
    for name, script in (("lavit", LAVIT), ("python", PYTHON)):
        (folder / name).write_text(script.format(**about))
        (folder / name).chmod(0o755)


def script_of(page: Path) -> str:
    """Return a page's blocks as one bash script: a reader's shell keeps its variables from block to block."""
    lines = ["set -euo pipefail"]
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        lines.append(block if language == "sh" else f"python - <<'PYTHON'\n{block}PYTHON")
    return "\n".join(lines)


def run_page(name: str, where: Path) -> str:
    """Run a tutorial in `where` and return what it printed."""
    env = environment(PATH=f"{where / 'bin'}{os.pathsep}{os.environ['PATH']}", LAVIT_DEBUG="0")
    script = script_of(PAGES / f"{name}.md")
    done = subprocess.run(["bash", "-c", script], cwd=where, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name}: {done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_tutorials_run_one_after_another(tmp_path: Path):
    place_commands(tmp_path / "bin")
    assert re.search(r"\d+ codes of 16 patches: ", run_page("own-images", tmp_path))
    assert Image.open(tmp_path / "drawn.png").size == (32, 32)
    assert '"codes": [' in run_page("one-stage", tmp_path)
    assert "the same codes" in run_page("cluster", tmp_path)
    assert '"step": ' in run_page("reading-a-run", tmp_path)
    run_page("serving", tmp_path)
    assert Image.open(tmp_path / "served.png").size == (32, 32)


@pytest.mark.slow
def test_tutorial_of_the_released_weights(tmp_path: Path):
    place_commands(tmp_path / "bin")
    geometry = Geometry()
    for write in (write_visual, write_language_model, write_pixels):
        write(tmp_path / "LaVIT-7B-v2", geometry)
    [cat] = write_images(tmp_path, geometry, count=1).glob("*.png")
    cat.rename(tmp_path / "cat.png")
    for photo in write_images(tmp_path / "photos", geometry).glob("*.png"):
        photo.with_suffix(".txt").write_text("a red circle")
    run_page("released-weights", tmp_path)
    assert (tmp_path / "runs" / "more" / "DONE").exists()


def test_every_tutorial_is_run():
    ran = set(re.findall(r'run_page\("([a-z-]+)"', Path(__file__).read_text(encoding="utf-8")))
    assert ran == {page.stem for page in PAGES.glob("*.md")}

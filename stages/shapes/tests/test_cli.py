import json
import subprocess
import sys

import typer
from lavit_shapes.cli import make_shapes
from typer.testing import CliRunner


def run(*arguments) -> str:
    app = typer.Typer()
    app.command()(make_shapes)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_make_shapes_reports_what_it_made_and_the_next_command(tmp_path):
    out = tmp_path / "shapes"
    options = (out, "--images", 12, "--heldout", 4, "--seed", 3)
    assert json.loads(run(*options, "--json")) == {
        "path": str(out), "generator": 2, "images": 12, "heldout": 4, "seed": 3,
    }  # fmt: skip
    assert "12 images in train/, 4 in heldout/; next: lavit train-encoder" in run(*options)


def test_help_imports_nothing_heavy():
    script = (
        "import sys, lavit_shapes.cli\n"
        "print([m for m in ('numpy', 'PIL', 'pydantic', 'yaml', 'rich', 'torch', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"

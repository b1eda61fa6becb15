"""`lavit --help`, and every command's, answer at once: no torch, no numpy, nothing heavy is imported."""

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

# typer itself imports pydantic to check values, not to show help.
HEAVY = ("torch", "transformers", "diffusers", "accelerate", "numpy", "PIL", "safetensors", "pydantic", "tokenizers")

WATCH = """
import json, sys
from lavit_cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    code = end.code
    sys.stdout.flush()
    names = sorted({name.partition(".")[0] for name in sys.modules})
    sys.stderr.write("\\n" + json.dumps({"code": code, "modules": names, "num_modules": len(sys.modules)}))
"""

MOST_MODULES = 450
"""Help imports 360 to 395 modules, most of them Python's own; one heavy library brings hundreds more."""

COMMANDS = sorted(entry.name for entry in entry_points(group="lavit.commands"))
INNER = ["data make-shapes", "data inspect", "tokens inspect", "tokens verify", "tokens export", "eval shapes"]


def run_watched(*arguments: str) -> tuple[dict, str]:
    """Run a command line in a child process; return its exit code and top-level modules, and its stdout."""
    done = subprocess.run([sys.executable, "-c", WATCH, *arguments], capture_output=True, text=True, check=False)
    return json.loads(done.stderr.splitlines()[-1]), done.stdout


@pytest.mark.parametrize("command", ["", *COMMANDS, *INNER])
def test_help_imports_nothing_heavy(command: str) -> None:
    seen, out = run_watched(*command.split(), "--help")
    assert seen["code"] == 0
    assert "Usage: lavit" in out
    assert not set(HEAVY) & set(seen["modules"])
    assert seen["num_modules"] < MOST_MODULES


def test_help_lists_every_command_under_its_panel() -> None:
    _, out = run_watched("--help")
    for command in COMMANDS:
        assert f" {command} " in out
    for panel in ("Start here", "Data and tokens", "Train", "Use a model", "Evaluate and report"):
        assert panel in out
    assert "failed to load" not in out
    assert "not installed" not in out


def test_only_the_named_command_is_loaded() -> None:
    seen, _ = run_watched("tokens", "--help")
    assert "lavit_core" in seen["modules"]
    assert not {"lavit_tokenizer", "lavit_pretrain", "lavit_detokenizer", "lavit_evaluation"} & set(seen["modules"])


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("caption nosuch.png --model X", "error: nosuch.png: file not found"),
        ("reconstruct pyproject.toml --model X", "error: pyproject.toml: not a readable image"),
        ("ask question pyproject.toml --model X", "give the image first: lavit ask IMAGE QUESTION"),
        ("generate x --image nosuch.png --model X", "error: --image nosuch.png: file not found"),
        ("train-encoder nowhere --out X", "error: nowhere: found nothing"),
        ("train-tokenizer nowhere --model X --out X", "error: nowhere: found nothing"),
        ("train-tokenizer . --model nowhere --out X", "error: nowhere: no such directory; `lavit train-encoder` makes"),
        ("tokenize-images nowhere --model X --out X", "error: nowhere: found nothing"),
        ("pretrain nowhere --model X --out X", "error: nowhere: not a token directory"),
        ("train-detokenizer nowhere --images X --model X --out X", "error: nowhere: not a token directory"),
        ("detokenize nowhere --model X --out X", "error: nowhere: not a token directory"),
    ],
)
def test_a_wrong_path_is_reported_before_torch_is_imported(command: str, line: str) -> None:
    done = subprocess.run([sys.executable, "-c", WATCH, *command.split()], capture_output=True, text=True, check=False)
    seen = json.loads(done.stderr.splitlines()[-1])
    assert seen["code"] in (2, 3)
    assert line in done.stderr
    assert not {"torch", "transformers"} & set(seen["modules"])

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from lavit_core.errors import UsageError
from lavit_pretrain import cli
from typer.testing import CliRunner

SMALL = [
    *("--set", "llm={hidden_size: 32, num_layers: 1, num_heads: 2, intermediate_size: 32}"),
    *("--set", "num_steps=3", "--set", "tokens_per_step=400", "--set", "precision=fp32"),
]


@pytest.fixture(scope="module")
def app():
    made = typer.Typer()
    for command in (cli.pretrain, cli.sample):
        made.command(command.__name__)(command)
    return made


def run(app, *arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_commands_one_after_another(app: typer.Typer, world: Any, tmp_path: Path) -> None:
    train = [
        "pretrain",
        world.tokens,
        "--model",
        world.model,
        "--out",
        tmp_path / "run",
        "--questions",
        world.questions,
    ]
    planned = json.loads(run(app, *train, *SMALL, "--dry-run", "--json"))
    assert planned["cost"]["steps"]["pretrain"]["flops_per_step"] > 0
    told = run(app, *train, *SMALL, "--dry-run")
    assert "  num_steps: 3" in told
    assert "estimated memory on each device, GB:" in told
    assert planned["config"]["num_steps"] == 3
    assert not (tmp_path / "run").exists()
    summary = json.loads(run(app, *train, *SMALL, "--json"))
    assert summary["steps"] == 3
    model = tmp_path / "run" / "model"
    assert "next: lavit train-detokenizer" in run(app, *train, *SMALL)
    said = run(app, "sample", "a red circle", "--model", model, "--out", tmp_path / "tokens", "--num-images", "2")
    assert said.strip().endswith(f"lavit detokenize {tmp_path / 'tokens'} --model {model} --out DIR")


def test_a_wrong_setting_is_named(app: typer.Typer, world: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown setting num_step; did you mean num_steps"):
        run(app, "pretrain", world.tokens, "--model", world.model, "--out", tmp_path, "--set", "num_step=3")
    with pytest.raises(UsageError, match="setting image_input: Input should be 'codes'"):
        run(app, "pretrain", world.tokens, "--model", world.model, "--out", tmp_path, "--image-input", "pixels")


def test_presets_are_valid_and_help_imports_no_torch() -> None:
    from lavit_core.config import load_preset, resolve
    from lavit_pretrain.config import PretrainConfig, SampleSettings

    for preset in ("tiny", "published"):
        resolve(PretrainConfig, preset=load_preset("lavit_pretrain", "pretrain", preset))
        resolve(SampleSettings, preset=load_preset("lavit_pretrain", "sample", preset))
    published = resolve(PretrainConfig, preset=load_preset("lavit_pretrain", "pretrain", "published"))
    changed = {"precision", "accumulate_steps", "tokens_per_step", "gradient_checkpointing", "checkpoint_every"}
    assert published.model_dump(exclude=changed) == PretrainConfig().model_dump(exclude=changed)
    code = "import lavit_pretrain.cli, lavit_pretrain.config, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_options_that_would_be_ignored_are_refused(app: typer.Typer, world: Any, tmp_path: Path) -> None:
    train = ["pretrain", world.tokens, "--model", world.model, "--out", tmp_path / "run", *SMALL]
    with pytest.raises(UsageError, match="--split says how --questions and --data are read"):
        run(app, *train, "--split", "train")
    with pytest.raises(UsageError, match="image_input codes reads no images; leave --data out"):
        run(app, *train, "--image-input", "codes", "--data", world.questions)
    assert not (tmp_path / "run").exists()

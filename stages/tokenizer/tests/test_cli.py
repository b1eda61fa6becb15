"""Commands and shipped presets."""

import inspect
import json
import subprocess
import sys
from importlib import resources

import pytest
from lavit_core.config import load_preset, resolve
from lavit_core.errors import UsageError
from lavit_tokenizer import cli
from lavit_tokenizer.config import TokenizeConfig, TrainEncoderConfig, TrainTokenizerConfig

MODELS = {
    "train-encoder": TrainEncoderConfig,
    "train-tokenizer": TrainTokenizerConfig,
    "tokenize-images": TokenizeConfig,
}
PRESETS = sorted(file.name for file in (resources.files("lavit_tokenizer") / "presets").iterdir())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_have_a_header(name):
    command, preset, _ = name.split(".")
    resolve(MODELS[command], preset=load_preset("lavit_tokenizer", command, preset))
    text = (resources.files("lavit_tokenizer") / "presets" / name).read_text()
    assert text.startswith(f"# lavit {command} ")
    assert "# Hardware:" in text


def test_published_preset_is_the_default():
    scale = {
        "kmeans_samples",
        "cache_bytes",
        "num_validation",
        "checkpoint_every",
        "gradient_checkpointing",
        "precision",
    }
    chosen = load_preset("lavit_tokenizer", "train-tokenizer", "published")
    assert resolve(TrainTokenizerConfig, preset=chosen).model_dump(exclude=scale) == (
        TrainTokenizerConfig().model_dump(exclude=scale)
    )


def test_an_option_for_samples_is_where_samples_are():
    following = {"tracker", "sample_every"}
    assert following & inspect.signature(cli.train_encoder).parameters.keys() == {"tracker"}
    assert following & inspect.signature(cli.train_tokenizer).parameters.keys() == following


def test_dry_runs_count_and_do_nothing(data, model, tmp_path, capsys):
    out = tmp_path / "run"
    cli.train_encoder(data=data, out=out, as_json=True, dry_run=True)
    encoder = json.loads(capsys.readouterr().out)
    # Half of the four blocks that are trained is exported.
    assert 450_000 < encoder["encoder_parameters"] < 550_000 < encoder["trained_parameters"]
    cli.train_tokenizer(data=data, out=out, model=model, as_json=True, dry_run=True)
    planned = json.loads(capsys.readouterr().out)
    assert planned["parameters"]["merger"] > 0
    assert planned["steps"] == sum(phase["num_steps"] for phase in planned["config"]["phases"])
    cli.tokenize_images(data=data, model=model, out=out, dry_run=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["images"] == 40
    assert not out.exists()


def test_last_line_names_the_next_command(data, model, tmp_path, capsys):
    cli.tokenize_images(data=data, model=model, out=tmp_path / "tokens", workers=0, quiet=True, device="cpu")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"tokens in {tmp_path / 'tokens'}; next: lavit pretrain")
    assert "--image-input codes" in last
    cli.tokenize_images(
        data=data, model=model, out=tmp_path / "more", workers=0, features=True, quiet=True, device="cpu"
    )
    assert "--image-input" not in capsys.readouterr().out


def test_importing_the_commands_imports_no_torch():
    code = "import sys, lavit_tokenizer.cli; assert not {'torch', 'transformers', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_task_says_that_the_directory_is_not_finished_yet(data, model, tmp_path, capsys):
    out = tmp_path / "tokens"
    common = {"data": data, "model": model, "out": out, "device": "cpu", "sets": ["shard_samples=20"], "workers": 0}
    with pytest.raises(UsageError, match=r"--num-tasks 2 needs --task-id, 0 .. 1: which of them this is"):
        cli.tokenize_images(**common, num_tasks=2)
    for number in (0, 1):
        with pytest.raises(UsageError, match=rf"--task-id {number} needs --num-tasks"):
            cli.tokenize_images(**common, task_id=number)
    assert not out.exists()
    cli.tokenize_images(**common, num_tasks=2, task_id=1)
    assert capsys.readouterr().out.splitlines()[-1] == f"task 1 of 2 is done; {out} is not finished yet"
    cli.tokenize_images(**common, num_tasks=2, task_id=0)
    assert f"tokens in {out}; next: lavit pretrain" in capsys.readouterr().out

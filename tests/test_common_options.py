"""What all commands have in common: their options, their width, and what --print-config and old names do."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
import typer
import typer.main
import yaml
from commandline import Mini

WITH_SETTINGS = (
    "quickstart", "train-encoder", "train-tokenizer", "tokenize-images", "pretrain", "train-detokenizer", "generate",
    "reconstruct", "caption", "ask", "sample", "detokenize",
)  # fmt: skip
OPTIONS = {"--preset", "--config", "--set", "--seed", "--device", "--json", "--quiet", "--dry-run", "--print-config"}
COMMANDS = {entry.name: entry for entry in entry_points(group="lavit.commands")}


def options_of(name: str) -> set[str]:
    app = typer.Typer()
    app.command(name)(COMMANDS[name].load())
    return {option for parameter in typer.main.get_command(app).params for option in parameter.opts}


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_commands_with_settings_have_every_common_option(name: str) -> None:
    assert options_of(name) >= OPTIONS
    assert name == "quickstart" or "--precision" in options_of(name)


@pytest.mark.parametrize("name", ["verify", "report", "doctor", "import-checkpoint", "export-checkpoint"])
def test_commands_without_settings_have_the_output_options(name: str) -> None:
    assert options_of(name) >= {"--json", "--quiet"}
    assert not options_of(name) & {"--preset", "--set", "--seed"}


PRESETS = {
    "caption": (["caption", "x.png"], "published"),
    "ask": (["ask", "x.png", "what?"], "published"),
    "vqav2": (["eval", "vqav2", "--model", "m", "--out", "o", "--data", "d"], "published"),
    "coco-fid": (["eval", "coco-fid", "--model", "m", "--out", "o", "--data", "d"], "released-fid"),
    "fid": (["eval", "fid", "--generated", "g", "--out", "o"], "released-fid"),
    "fid-stats": (["eval", "fid-stats", "i", "--out", "o"], "released-fid"),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_holds_the_published_settings(here, name: str) -> None:
    line, preset = PRESETS[name]
    default, published = here(*line, "--print-config"), here(*line, "--preset", preset, "--print-config")
    assert (default.code, published.code) == (0, 0), default.err + published.err
    changed = {"vqav2": {"decoding": "beams"}, "coco-fid": {"best_of": 4}}.get(name, {})
    assert yaml.safe_load(published.out) == yaml.safe_load(default.out) | changed
    refused = here(*line, "--preset", "huge")
    assert refused.code == 2
    assert f"has the presets {preset}" in refused.err


@pytest.mark.parametrize("line", [["probe", "--data", "d"], ["coco-retrieval", "--data", "d", "--out", "o"]])
def test_a_command_without_presets_has_no_option_for_them(here, line: list[str]) -> None:
    refused = here("eval", *line, "--model", "m", "--preset", "tiny")
    assert refused.code == 2
    assert "No such option: --preset" in refused.err


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_no_option_is_cut_at_80_columns(name: str) -> None:
    env = {**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80", "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "lavit_cli", name, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("name", ["quickstart", "train-encoder", "train-tokenizer", "pretrain", "train-detokenizer"])
def test_settings_are_printed_without_data(here, name: str, tmp_path: Path) -> None:
    done = here(name, "--print-config", "--set", "encoder={}" if name == "quickstart" else "precision=fp32")
    assert done.code == 0, done.err
    settings = yaml.safe_load(done.out)
    assert settings["preset"] == "tiny" if name == "quickstart" else settings["precision"] == "fp32"
    (tmp_path / "again.yaml").write_text(done.out, encoding="utf-8")
    again = here(name, "--print-config", "--config", tmp_path / "again.yaml")
    assert yaml.safe_load(again.out) == settings


@pytest.mark.parametrize("name", [name for name in WITH_SETTINGS if name != "quickstart"] + [
    "eval vqav2", "eval flickr30k-retrieval", "eval magicbrush", "eval coco-fid", "eval fid", "eval fid-stats",
    "eval clip-score", "eval shapes", "eval probe", "eval score",
])  # fmt: skip
def test_settings_are_printed_without_any_argument(here, name: str) -> None:
    done = here(*name.split(), "--print-config")
    assert done.code == 0, done.err
    assert isinstance(yaml.safe_load(done.out), dict)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize(
    "line",
    [
        "quickstart",
        "train-encoder DATA",
        "pretrain TOKENS --model MODEL",
        "train-detokenizer TOKENS --images DATA --model MODEL",
        "detokenize TOKENS --model MODEL",
        "eval vqav2 --model no-model --data no-data",
        "eval shapes --model no-model --data no-data",
    ],
)
def test_a_missing_device_is_refused_before_a_run_directory_is_made(
    mini: Mini, here, line: str, tmp_path: Path
) -> None:
    given = {"DATA": mini.train, "TOKENS": mini.tokens, "MODEL": mini.model}
    arguments = [given.get(word, word) for word in line.split()]
    done = here(*arguments, "--out", tmp_path / "run", "--device", "cuda:1", "--quiet")
    assert (done.code, done.err) == (2, "error: --device cuda:1: no CUDA device here; use --device cpu\n")
    assert not (tmp_path / "run").exists()


def test_a_phase_is_changed_by_its_name(here) -> None:
    line = ["train-tokenizer", "--print-config"]
    preset, changed = (
        {phase["name"]: phase["num_steps"] for phase in yaml.safe_load(here(*line, *more).out)["phases"]}
        for more in ([], ["--set", "phases.selector.num_steps=200"])
    )
    assert list(preset) == ["masks", "selector", "merger", "codes"]
    assert changed == {**preset, "selector": 200} != preset
    done = here("train-tokenizer", "--print-config", "--set", "phases.slector.num_steps=200")
    assert done.code == 2
    assert "phases has no item slector; did you mean selector? items: masks, selector, merger, codes" in done.err
    done = here("quickstart", "--print-config", "--set", "tokenizer.phases.selector.num_steps=200")
    assert yaml.safe_load(done.out)["tokenizer"]["phases"][1]["num_steps"] == 200


def test_old_names_of_generate_and_import_are_accepted(here) -> None:
    line = ["generate", "a red circle", "--print-config"]
    done = here(*line, "--best-by", "reading", "--prompt-images-as", "bare")
    settings = yaml.safe_load(done.out)
    assert (settings["rerank_by"], settings["sample"]["prompt_images"]) == ("likelihood", "bare")
    assert "warning: --best-by is now --rerank-by likelihood; the old name is accepted for one more release" in done.err
    assert "warning: --prompt-images-as is now --image-prompt-format" in done.err
    done = here("import-checkpoint", "nothing", "--out", "x", "--softmax", "exact")
    assert "warning: --softmax is now --attention packed" in done.err
    assert done.code == 3

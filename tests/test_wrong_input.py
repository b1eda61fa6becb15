"""Wrong input: one clear line on stderr, the right exit code, and nothing lost."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import yaml
from commandline import MINI, Done, Mini
from lavit_core.modeldir import part_digest, read_metadata

from lavit_cli.main import main

SETTINGS = yaml.safe_load(MINI.read_text(encoding="utf-8"))


@pytest.fixture
def refused(here: Callable[..., Done]) -> Callable[..., str]:
    """Give a function that runs a command line, checks its exit code, and returns its one error line."""

    def run(code: int, *arguments: str | Path) -> str:
        done = here(*arguments)
        errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert done.code == code, done.err
        assert done.err.splitlines()[-1:] == errors, done.err
        assert "Traceback" not in done.err
        return errors[0]

    return run


def config_of(tmp_path: Path, step: str, **more: object) -> Path:
    file = tmp_path / f"{step}.yaml"
    file.write_text(yaml.safe_dump({**SETTINGS.get(step, {}), **more}), encoding="utf-8")
    return file


def commands(mini: Mini, out: Path) -> dict[str, list[str | Path]]:
    """Return a valid command line of each verb that reads something; tests spoil one argument each."""
    return {
        "train-encoder": ["train-encoder", mini.train, "--out", out],
        "train-tokenizer": ["train-tokenizer", mini.train, "--model", mini.model, "--out", out],
        "tokenize-images": ["tokenize-images", mini.train, "--model", mini.model, "--out", out],
        "pretrain": ["pretrain", mini.tokens, "--model", mini.model, "--out", out],
        "train-detokenizer": [
            "train-detokenizer",
            mini.tokens,
            "--images",
            mini.train,
            "--model",
            mini.model,
            "--out",
            out,
        ],
        "detokenize": ["detokenize", mini.tokens, "--model", mini.model, "--out", out],
        "eval": ["eval", "shapes", "--data", mini.heldout, "--model", mini.model, "--out", out],
        "caption": ["caption", mini.heldout / "images/000000.png", "--model", mini.model],
        "reconstruct": [
            "reconstruct",
            mini.heldout / "images/000000.png",
            "--model",
            mini.model,
            "--out",
            out / "r.png",
        ],
    }


VERBS = (
    "train-encoder", "train-tokenizer", "tokenize-images", "pretrain", "train-detokenizer", "detokenize", "eval",
    "caption", "reconstruct",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_path_is_named(mini: Mini, refused, tmp_path: Path, verb: str) -> None:
    command = commands(mini, tmp_path / "out")[verb]
    place = command.index("--data") + 1 if verb == "eval" else 1
    missing = tmp_path / "nothing-here"
    command[place] = missing
    assert str(missing) in refused(3, *command)
    assert not (tmp_path / "out" / "DONE").exists()


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "train-encoder"])
def test_a_missing_model_is_named_with_the_command_that_makes_one(
    mini: Mini, refused, tmp_path: Path, verb: str
) -> None:
    command = commands(mini, tmp_path / "out")[verb]
    command[command.index("--model") + 1] = tmp_path / "no-model"
    line = refused(3, *command)
    assert "no-model" in line
    assert "`lavit train-" in line or "`lavit pretrain" in line


@pytest.mark.parametrize("verb", ["train-encoder", "train-tokenizer", "tokenize-images"])
def test_an_empty_folder_is_named(mini: Mini, refused, tmp_path: Path, verb: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    command = commands(mini, tmp_path / "out")[verb]
    command[1] = empty
    assert str(empty) in refused(3, *command)


@pytest.mark.parametrize("verb", ["caption", "reconstruct"])
def test_a_text_file_is_no_image(mini: Mini, refused, tmp_path: Path, verb: str) -> None:
    text = tmp_path / "image.png"
    text.write_text("not an image", encoding="utf-8")
    command = commands(mini, tmp_path / "out")[verb]
    command[1] = text
    line = refused(3, *command)
    assert str(text) in line
    assert "not a readable image" in line


def spoiled_data(mini: Mini, folder: Path) -> Path:
    """Copy four images with captions; the third is a text file."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(4):
        name = f"images/00000{number}.png"
        content = (mini.train / name).read_bytes() if number != 2 else b"<html>not found</html>"
        (folder / name).write_bytes(content)
        rows.append(json.dumps({"file_name": name, "captions": ["a red circle"]}))
    (folder / "captions.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_a_text_file_among_images_is_recorded_and_counts_against_the_budget(
    mini: Mini, refused, tmp_path: Path
) -> None:
    data, out = spoiled_data(mini, tmp_path / "data"), tmp_path / "tokens"
    config = config_of(tmp_path, "tokens", workers=0)
    line = refused(5, "tokenize-images", data, "--model", mini.model, "--out", out, "--config", config)
    assert "1 of 4" in line
    errors = [json.loads(row) for row in (out / "errors.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["key"] for row in errors] == ["images/000002.png"]
    assert json.loads((out / "manifest.json").read_text())["shards"][0]["samples"] == 3


def test_training_names_the_unreadable_image(mini: Mini, refused, tmp_path: Path) -> None:
    data = spoiled_data(mini, tmp_path / "data")
    config = config_of(tmp_path, "encoder", batch_size=2, num_validation=1)
    line = refused(3, "train-encoder", data, "--out", tmp_path / "run", "--config", config)
    assert "000002.png" in line


def test_tokens_of_another_tokenizer_are_refused(mini: Mini, refused, tmp_path: Path) -> None:
    other = tmp_path / "other"
    config = config_of(tmp_path, "tokenizer")
    model = mini.run / "encoder" / "model"
    with pytest.raises(SystemExit) as end:
        main(["train-tokenizer", str(mini.train), "--model", str(model), "--out", str(other), "--seed", "9",
              "--config", str(config), "--quiet"])  # fmt: skip
    assert end.value.code == 0
    theirs = other / "model"
    for verb in ("pretrain", "train-detokenizer", "detokenize"):
        command = commands(mini, tmp_path / verb)[verb]
        command[command.index("--model") + 1] = (
            theirs if verb != "detokenize" else with_detokenizer(mini, theirs, tmp_path)
        )
        line = refused(3, *command)
        assert part_digest(theirs / "tokenizer")[:12] in line, verb
        assert not (tmp_path / verb / "DONE").exists()


def with_detokenizer(mini: Mini, theirs: Path, tmp_path: Path) -> Path:
    """Put another tokenizer beside the detokenizer of the miniature."""
    from lavit_core.files import link_or_copy, write_json

    model = tmp_path / "mixed"
    for part, source in (("tokenizer", theirs), ("detokenizer", mini.model), ("encoder", mini.model)):
        link_or_copy(source / part, model / part)
    ours, others = read_metadata(mini.model)["parts"], read_metadata(theirs)["parts"]
    parts = {"encoder": ours["encoder"], "tokenizer": others["tokenizer"], "detokenizer": ours["detokenizer"]}
    write_json(model / "lavit.json", {"format": 1, "parts": parts})
    return model


@pytest.mark.parametrize(
    "verb", ["train-encoder", "train-tokenizer", "tokenize-images", "pretrain", "train-detokenizer", "eval"]
)
def test_an_unknown_setting_is_refused_with_the_nearest_name(mini: Mini, refused, tmp_path: Path, verb: str) -> None:
    near = {"tokenize-images": "batch_sise", "eval": "pictres", "pretrain": "num_stepps"}.get(verb, "checkpoint_evry")
    line = refused(2, *commands(mini, tmp_path / "out")[verb], "--set", f"{near}=3")
    assert f"unknown setting {near}; did you mean" in line
    line = refused(2, "quickstart", "--out", tmp_path / "q", "--set", "pretrian.num_steps=3")
    assert "did you mean pretrain?" in line
    assert not (tmp_path / "out").exists()


def test_a_usage_error_points_to_the_help_of_its_command(refused) -> None:
    assert refused(2, "tokens", "verify", "A", "B").endswith("; see `lavit tokens verify --help`")
    assert refused(2, "eval", "vqav3").endswith("; see `lavit eval --help`")
    assert refused(2, "trian-encoder").endswith("; see `lavit --help`")


def test_images_are_rendered_or_given(refused, mini, tmp_path: Path) -> None:
    line = refused(2, "quickstart", "--data", mini.train, "--images", "9", "--out", tmp_path / "q")
    assert "--images 9 is how many images are rendered, and --data has its own" in line


def test_an_unknown_setting_of_a_step_stops_the_quickstart_before_any_work(refused, tmp_path: Path) -> None:
    line = refused(2, "quickstart", "--out", tmp_path / "q", "--config", MINI, "--set", "detokenizer.num_stps=3")
    assert "num_stps" in line
    assert not (tmp_path / "q").exists()


SPOILED = {
    "train-encoder": ("encoder", {"lr": 1e30, "warmup_steps": 1}),
    "train-tokenizer": (
        "tokenizer",
        {"phases": [{"name": "masks", "num_steps": 6, "batch_size": 16, "selection": "random", "merger": "off",
                     "train": ["merger", "decoder"], "lr": 1e30}]},
    ),
    "pretrain": ("pretrain", {"llm_lr": 1e30, "warmup_steps": 1}),
    "train-detokenizer": ("detokenizer", {"lr": 1e30, "warmup_steps": 1}),
}  # fmt: skip
"""Learning rates that make the loss NaN within a few steps."""


@pytest.mark.parametrize("verb", list(SPOILED))
def test_a_nan_loss_ends_the_run_and_keeps_the_checkpoint(mini: Mini, refused, tmp_path: Path, verb: str) -> None:
    step, more = SPOILED[verb]
    out = tmp_path / "run"
    config = config_of(tmp_path, step, checkpoint_every=1, **more)
    line = refused(1, *commands(mini, out)[verb], "--config", config)
    assert "expected a finite number" in line
    assert list((out / "checkpoints").glob("step-*"))
    assert not (out / "DONE").exists()


def test_a_run_directory_of_other_settings_is_refused(mini: Mini, refused, tmp_path: Path) -> None:
    config = config_of(tmp_path, "encoder", num_steps=13)
    run = tmp_path / "run"
    copytree(mini.run / "encoder", run)
    before = (run / "DONE").read_bytes()
    line = refused(2, "train-encoder", mini.train, "--out", run, "--config", config)
    assert "num_steps = 12, now it is 13" in line
    assert (run / "DONE").read_bytes() == before


def test_damaged_tokens_are_found(mini: Mini, refused, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    copytree(mini.tokens, tokens)
    shard = next(tokens.glob("shard-*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-3] ^= 0x40
    shard.write_bytes(content)
    line = refused(4, "tokens", "verify", tokens)
    assert shard.name in line

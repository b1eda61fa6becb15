"""`kill -9` or SIGTERM at any instant, then the same command: the same bytes as a run that nobody disturbed."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from commandline import MINI, Mini, lavit, start, wait_for
from lavit_core.modeldir import part_digest
from lavit_core.rundir import TIMING_KEYS, read_metrics
from run_commands import leave

# Every stage has quick tests of its own that stop it inside its process.
pytestmark = pytest.mark.slow

SETTINGS = yaml.safe_load(MINI.read_text(encoding="utf-8"))

Ready = Callable[[Path], bool]


def settings(tmp_path: Path, step: str, **more: object) -> Path:
    """Write the miniature's settings of one step, with some changed, as a --config file."""
    file = tmp_path / f"{step}.yaml"
    file.write_text(yaml.safe_dump({**SETTINGS.get(step, {}), **more}), encoding="utf-8")
    return file


def kill_and_resume(arguments: list[str | Path], out: Path, ready: Ready, done: Ready) -> None:
    """Start a command, kill it as soon as `ready`, and run it again to its end.

    The machine may be so quick that the command is done first: then it is started over.
    """
    for _ in range(4):
        child = start(*arguments)
        wait_for(lambda: ready(out), child)
        child.kill()
        child.communicate()
        if not done(out):
            break
        shutil.rmtree(out)
    else:
        pytest.fail("the command always finished before it could be killed")
    again = lavit(*arguments)
    assert again.code == 0, again.err


def metrics(run: Path) -> list[dict]:
    """Return a run's metrics without what measures the machine."""
    rows = read_metrics(run)
    assert rows
    return [{key: value for key, value in row.items() if key not in TIMING_KEYS} for row in rows]


def is_done(out: Path) -> bool:
    return (out / "DONE").exists()


def test_tokenize_images(mini: Mini, tmp_path: Path) -> None:
    config = settings(tmp_path, "tokens", workers=1, shard_samples=6, batch_size=4, features=True)
    common = ["tokenize-images", mini.train, "--model", mini.model, "--config", config]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert lavit(*common, "--out", whole).code == 0
    kill_and_resume(
        [*common, "--out", killed], killed, lambda out: (out / "shard-000002.safetensors").exists(), is_done
    )
    names = {
        file.name
        for file in whole.iterdir()
        if file.suffix in (".safetensors", ".jsonl") or file.name == "manifest.json"
    }
    assert len(names) >= 17
    for name in names:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_workers_do_not_change_a_byte(mini: Mini, tmp_path: Path) -> None:
    config = settings(tmp_path, "tokens", shard_samples=20, batch_size=8, features=True)
    outs = []
    for workers in ("1", "2", "3"):
        outs.append(tmp_path / f"workers-{workers}")
        done = lavit("tokenize-images", mini.heldout, "--model", mini.model, "--config", config, "--workers", workers,
                     "--out", outs[-1])  # fmt: skip
        assert done.code == 0, done.err
    for name in ("manifest.json", "shard-000000.safetensors", "shard-000001.safetensors"):
        first, *others = [(out / name).read_bytes() for out in outs]
        assert all(other == first for other in others), name


def a_checkpoint(out: Path) -> bool:
    return any((out / "checkpoints").glob("step-*"))


def compare(common: list[str | Path], tmp_path: Path, part: str) -> None:
    """Run a training command whole, and killed once and resumed, and compare weights and metrics."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = lavit(*common, "--out", whole)
    assert done.code == 0, done.err
    kill_and_resume([*common, "--out", killed], killed, a_checkpoint, is_done)
    assert part_digest(killed / "model" / part) == part_digest(whole / "model" / part)
    assert metrics(killed) == metrics(whole)
    first, second = (json.loads((run / "DONE").read_text()) for run in (killed, whole))
    assert first["steps"] == second["steps"]


def test_train_tokenizer(mini: Mini, tmp_path: Path) -> None:
    phases = [{**phase, "num_steps": 8} for phase in SETTINGS["tokenizer"]["phases"]]
    config = settings(tmp_path, "tokenizer", phases=phases, checkpoint_every=5)
    model = mini.run / "encoder" / "model"
    compare(["train-tokenizer", mini.train, "--model", model, "--config", config], tmp_path, "tokenizer")


def test_pretrain(mini: Mini, tmp_path: Path) -> None:
    config = settings(tmp_path, "pretrain", num_steps=40, checkpoint_every=8)
    questions = mini.train / "questions.jsonl"
    common = ["pretrain", mini.tokens, "--model", mini.run / "tokenizer" / "model", "--questions", questions]
    compare([*common, "--config", config], tmp_path, "llm")


def test_train_detokenizer(mini: Mini, tmp_path: Path) -> None:
    config = settings(tmp_path, "detokenizer", num_steps=20, checkpoint_every=4)
    common = ["train-detokenizer", mini.tokens, "--images", mini.train, "--model", mini.run / "pretrain" / "model"]
    compare([*common, "--config", config], tmp_path, "detokenizer")


INTERRUPTIONS = 10
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["lavit_cli.main", "lavit_tokenizer.api", "lavit_pretrain.api", "lavit_detokenizer.api"])
"""Children that need not import torch: a start of the interpreter would be most of each of them."""


def forked(line: list[str | Path]) -> multiprocessing.process.BaseProcess:
    """Start a command line in a child that ends with its exit code."""
    child = FORKS.Process(target=leave, args=([str(word) for word in line],))
    child.start()
    return child


TRAININGS = {
    "encoder": {"num_steps": 24},
    "tokenizer": {"checkpoint_every": 4},
    "pretrain": {"num_steps": 40, "checkpoint_every": 6},
    "detokenizer": {"num_steps": 20, "checkpoint_every": 4},
}


@pytest.mark.parametrize("step", TRAININGS)
def test_ten_interruptions_at_random_times(mini: Mini, tmp_path: Path, step: str) -> None:
    config = settings(tmp_path, step, **TRAININGS[step])
    questions = ["--questions", mini.train / "questions.jsonl"]
    common: list[str | Path] = {
        "encoder": ["train-encoder", mini.train],
        "tokenizer": ["train-tokenizer", mini.train, "--model", mini.run / "encoder" / "model"],
        "pretrain": ["pretrain", mini.tokens, "--model", mini.run / "tokenizer" / "model", *questions],
        "detokenizer": ["train-detokenizer", mini.tokens, "--images", mini.train, "--model", mini.model],
    }[step]  # fmt: skip
    whole, out = tmp_path / "whole", tmp_path / "interrupted"
    line = [*common, "--config", config, "--quiet", "--out"]
    part = "llm" if step == "pretrain" else step

    def finish(place: Path) -> float:
        began = time.monotonic()
        child = forked([*line, place])
        child.join()
        assert child.exitcode == 0
        return time.monotonic() - began

    def compare_runs() -> None:
        assert part_digest(out / "model" / part) == part_digest(whole / "model" / part)
        assert metrics(out) == metrics(whole)

    finish(whole)  # the first child waits for the imports
    shutil.rmtree(whole)
    seconds = finish(whole)
    draw, struck = random.Random(step), 0
    while struck < INTERRUPTIONS:
        sent = (signal.SIGKILL, signal.SIGTERM)[struck % 2]
        child = forked([*line, out])
        child.join(draw.uniform(0, seconds))
        if child.exitcode is None:
            os.kill(child.pid or 0, sent)
            child.join()
        # A signal before the command listens ends it as it ends any process; state is what counts.
        assert child.exitcode in (0, -sent, 75), child.exitcode
        if child.exitcode == 0:
            compare_runs()
            shutil.rmtree(out)
        else:
            struck += 1
    finish(out)
    compare_runs()

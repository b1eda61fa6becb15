"""Several processes train what one trains: DDP and FSDP2 on gloo, from the same command lines, started by torchrun."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from commandline import MINI, Done, Mini, environment, lavit, wait_for
from lavit_core.rundir import TIMING_KEYS, read_metrics
from safetensors.torch import load_file

SETTINGS = yaml.safe_load(MINI.read_text(encoding="utf-8"))
SCRIPT = Path(__file__).parent / "run_commands.py"

# The module's runs are made in its first test.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHECKPOINT_EVERY = 5
"""So the oldest checkpoint that the tokenizer keeps, at step 10, lies inside a phase, with the codebook yet to come."""

TRAINERS: dict[str, dict[str, Any]] = {
    "pretrain": {"optimizer": "adamw", "accumulate_steps": 2, "gradient_checkpointing": True, "checkpoint_every": 4},
    "pretrain-split": {"optimizer": "adamw", "accumulate_steps": 3, "tokens_per_step": 256},
    "pretrain-lora": {"optimizer": "adamw", "accumulate_steps": 2, "lora": {"rank": 2}, "checkpoint_every": 4},
    "train-detokenizer": {"accumulate_steps": 2, "gradient_checkpointing": True, "checkpoint_every": 3},
    "train-encoder": {"optimizer": "adamw"},
    "train-tokenizer": {"optimizer": "adamw", "nmse_weight": 0.5, "keep_term": "batch", "commitment_weight": 0.2},
}
"""Command -> settings that its runs have beside the miniature's, and those of the test. (Two processes have one of two
packed batches each, and halves of each of three.) Most have a newest checkpoint that two processes can have made after
the oldest one, with steps to come."""

EXACT = {"log_every": 1, "checkpoint_every": CHECKPOINT_EVERY, "precision": "fp32"}
"""fp32 here and AdamW there: bfloat16, also Muon's inside, makes much of the order in which numbers are added."""


def command(trainer: str) -> str:
    """Return the command of an entry of `TRAINERS`."""
    return trainer.removesuffix("-split").removesuffix("-lora")


def torchrun(lines: list[list[str]], folder: Path, *, processes: int = 2) -> tuple[list[int], str]:
    """Run command lines one after another in processes started once; return the first one's exit codes, and stderr."""
    (folder / "lines.json").write_text(json.dumps(lines), encoding="utf-8")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    child = subprocess.Popen(
        [*start, str(SCRIPT), str(folder / "lines.json"), str(folder / "codes.json")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        told = child.communicate()[1]
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)  # its processes would wait for each other
        raise
    assert child.returncode == 0, told[-3000:]
    return json.loads((folder / "codes.json").read_text(encoding="utf-8")), told


def inputs(mini: Mini, trainer: str) -> list[str | Path]:
    """Return a trainer's command line without --out and --config."""
    pretrain = [mini.tokens, "--model", mini.model, "--questions", mini.train / "questions.jsonl"]
    return {
        "pretrain": pretrain,
        "pretrain-split": pretrain,
        "pretrain-lora": [*pretrain, "--llm", mini.model / "llm"],
        "train-detokenizer": [mini.tokens, "--images", mini.train, "--model", mini.model],
        "train-encoder": [mini.train],
        "train-tokenizer": [mini.train, "--model", mini.model],
    }[trainer]


def cut(run: Path, to: Path, *, newest: bool = False) -> None:
    """Copy a run directory as a kill after its oldest checkpoint, or its newest, would have left it."""
    shutil.copytree(run, to)
    (to / "DONE").unlink()
    shutil.rmtree(to / "model")
    checkpoints = sorted((to / "checkpoints").glob("step-*"))
    for checkpoint in checkpoints[:-1] if newest else checkpoints[1:]:
        shutil.rmtree(checkpoint)


def metrics(run: Path) -> list[dict[str, Any]]:
    """Return a run's metrics without what measures the machine."""
    return [{key: value for key, value in row.items() if key not in TIMING_KEYS} for row in read_metrics(run)]


def assert_same_metrics(run: Path, reference: Path) -> None:
    """Assert that every step's metrics are equal within 1e-5, which float32 sums in another order stay below."""
    expected, found = metrics(reference), metrics(run)
    assert len(found) == len(expected) > CHECKPOINT_EVERY
    for row, wanted in zip(found, expected, strict=True):
        assert row.keys() == wanted.keys()
        for name, value in wanted.items():
            assert row[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-5, abs=1e-5)), name


def assert_same_weights(run: Path, reference: Path) -> None:
    """Assert that the exported weights are equal within a tenth of a step of Adam: small gradients turn rounding into
    other steps.

    Left out are biases of attention's keys: softmax does not see them, so their gradient is rounding alone, of which
    Adam makes steps of full length.
    """
    files = sorted(file.relative_to(reference) for file in (reference / "model").rglob("*.safetensors"))
    assert files
    for file in files:
        expected, found = load_file(reference / file), load_file(run / file)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            one, other = value.float().numpy(), found[name].float().numpy()
            if name.endswith("qkv.bias"):
                keys = slice(len(one) // 3, 2 * len(one) // 3)
                one, other = np.delete(one, keys), np.delete(other, keys)
            elif name.endswith("cross_attn.key.bias"):
                continue
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4, err_msg=f"{file}: {name}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runs:
    """What the processes left."""

    folder: Path
    told: str
    """What they said on stderr."""

    def of(self, trainer: str, kind: str) -> Path:
        """Return a run's directory."""
        return self.folder / f"{trainer}-{kind}"


@pytest.fixture(scope="module")
def runs(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Run each trainer alone, as copies, as shards, and from a lone run's checkpoint on: one start of torchrun."""
    from lavit_cli.main import run

    folder = tmp_path_factory.mktemp("processes")

    def line(trainer: str, kind: str, **more: Any) -> list[str]:
        step = command(trainer).removeprefix("train-")
        file = folder / f"{trainer}-{kind}.yaml"
        settings = {**SETTINGS[step], **EXACT, **TRAINERS[trainer], **more}
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return [
            command(trainer),
            *map(str, inputs(mini, trainer)),
            "--out",
            str(folder / f"{trainer}-{kind}"),
            "--config",
            str(file),
        ]

    lines = []
    for trainer in TRAINERS:
        assert run([*line(trainer, "alone"), "--quiet"]) == 0
        cut(folder / f"{trainer}-alone", folder / f"{trainer}-grown")
        lines += [line(trainer, "ddp"), line(trainer, "fsdp", parallel="fsdp"), line(trainer, "grown")]
    refused = [["eval", "list"], line("pretrain", "refused", optimizer="muon", parallel="fsdp")]
    codes, told = torchrun([*lines, *refused], folder)
    assert codes == [0] * len(lines) + [2, 2], told[-3000:]
    return Runs(folder=folder, told=told)


@pytest.mark.parametrize("kind", ["ddp", "fsdp", "grown"])
@pytest.mark.parametrize("trainer", TRAINERS)
def test_two_processes_train_what_one_trains(runs: Runs, trainer: str, kind: str) -> None:
    assert_same_metrics(runs.of(trainer, kind), runs.of(trainer, "alone"))
    assert_same_weights(runs.of(trainer, kind), runs.of(trainer, "alone"))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_one_process_resumes_a_run_of_two(mini: Mini, runs: Runs, here: Callable[..., Done], trainer: str) -> None:
    sharded, shrunk = runs.of(trainer, "fsdp"), runs.of(trainer, "shrunk")
    cut(sharded, shrunk)
    config = sharded.with_suffix(".yaml")
    done = here(command(trainer), *inputs(mini, trainer), "--out", shrunk, "--config", config, "--quiet")
    assert done.code == 0, done.err
    assert_same_metrics(shrunk, runs.of(trainer, "alone"))
    assert_same_weights(shrunk, runs.of(trainer, "alone"))


@pytest.mark.parametrize("trainer", [trainer for trainer in TRAINERS if trainer != "pretrain-split"])
def test_one_then_two_then_one_process(mini: Mini, runs: Runs, here: Callable[..., Done], trainer: str) -> None:
    grown, again = runs.of(trainer, "grown"), runs.of(trainer, "again")
    cut(grown, again, newest=True)
    [newest] = (again / "checkpoints").iterdir()
    steps = len(metrics(grown))
    assert int(newest.name.removeprefix("step-")) in range(steps // 2, steps)  # two processes made it
    config = grown.with_suffix(".yaml")
    done = here(command(trainer), *inputs(mini, trainer), "--out", again, "--config", config, "--quiet")
    assert done.code == 0, done.err
    assert_same_metrics(again, runs.of(trainer, "alone"))
    assert_same_weights(again, runs.of(trainer, "alone"))


def test_commands_of_one_process_are_refused_by_the_first_process_alone(runs: Runs) -> None:
    assert [line for line in runs.told.splitlines() if line.startswith("error: ")] == [
        "error: lavit eval: works in one process, started by torchrun as 2; start it alone",
        "error: setting optimizer: muon with parallel: fsdp, but Muon turns whole matrices and fsdp holds a part of "
        "each; set optimizer to adamw, or parallel to ddp",
    ]
    assert not runs.of("pretrain", "refused").exists()


def test_the_first_process_alone_prints(runs: Runs) -> None:
    shown = [line for line in runs.told.splitlines() if line.startswith("train-encoder: 12/12")]
    assert len(shown) == 3  # its three runs


def start_long_run(mini: Mini, folder: Path, **more: str) -> tuple[subprocess.Popen[str], list[str], Path]:
    """Start two processes on a run of many steps, and wait until it is well on its way."""
    out, config = folder / "run", folder / "long.yaml"
    settings = {**SETTINGS["pretrain"], **EXACT, "optimizer": "adamw", "num_steps": 400, "checkpoint_every": 20}
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    line = ["pretrain", *map(str, inputs(mini, "pretrain")), "--out", str(out), "--config", str(config)]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lavit_cli"]
    child = subprocess.Popen(
        [*start, *line], env=environment(**more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: len(read_metrics(out)) > 25, child, 600)
    return child, line, out


def test_sigterm_ends_in_one_checkpoint(mini: Mini, tmp_path: Path) -> None:
    child, _, out = start_long_run(mini, tmp_path)
    child.send_signal(signal.SIGTERM)
    told = child.communicate()[1]
    steps = len(read_metrics(out))
    assert child.returncode != 0
    said = [line for line in told.splitlines() if line.startswith("stopped: ")]
    assert said == [f"stopped: {out}: at step {steps} of 400, state saved; run the same command to go on"]
    assert (out / "checkpoints" / f"step-{steps:08d}").is_dir()


def test_a_process_that_dies_ends_the_job_which_one_process_finishes(mini: Mini, tmp_path: Path) -> None:
    child, line, out = start_long_run(mini, tmp_path)
    workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text(encoding="utf-8").split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    told = child.communicate()[1]
    assert child.returncode != 0
    assert "a bug in lavit" not in told
    assert len(read_metrics(out)) < 400
    assert lavit(*line).code == 0
    assert [row["step"] for row in read_metrics(out)] == list(range(1, 401))


@pytest.mark.parametrize("place", [0, -1])
def test_a_process_that_hangs_ends_the_job_in_bounded_time(mini: Mini, tmp_path: Path, place: int) -> None:
    child, _, out = start_long_run(mini, tmp_path, LAVIT_PROCESS_TIMEOUT="10")
    workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text(encoding="utf-8").split()
    os.kill(int(workers[place]), signal.SIGSTOP)
    told = child.communicate(timeout=240)[
        1
    ]  # ten seconds, and half a minute in which torchrun waits for the stopped one
    assert child.returncode != 0
    assert "the other processes do not answer" in told
    assert "a bug in lavit" not in told
    assert len(read_metrics(out)) < 400


def test_a_merger_without_blocks_trains_in_two_processes(mini: Mini, tmp_path: Path) -> None:
    settings = {**SETTINGS["tokenizer"], "model": {**SETTINGS["tokenizer"]["model"], "merger_layers": 0}}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    start = ["train-tokenizer", *inputs(mini, "train-tokenizer"), "--config", tmp_path / "settings.yaml"]
    line = [*start, "--out", tmp_path / "run", "--device", "cpu", "--quiet"]
    codes, told = torchrun([[str(word) for word in line]], tmp_path)
    assert codes == [0], told[-2000:]

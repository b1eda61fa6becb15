"""Several processes train what one trains: DDP and FSDP2 on gloo, from the same command lines, started by torchrun."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commandline import MINI, Done, Mini, environment
from lavit_core.rundir import TIMING_KEYS, read_metrics
from safetensors.torch import load_file

SETTINGS = yaml.safe_load(MINI.read_text(encoding="utf-8"))
SCRIPT = Path(__file__).parent / "run_commands.py"

CUT = 4
"""The step whose checkpoint runs go on from, with another number of processes."""

TRAINERS: dict[str, dict[str, Any]] = {
    "pretrain": {"accumulate_steps": 2, "gradient_checkpointing": True},
}
"""Command -> settings that its runs have beside the miniature's, and those of the test."""

EXACT = {"log_every": 1, "checkpoint_every": CUT, "precision": "fp32", "optimizer": "adamw"}
"""fp32 and AdamW: bfloat16 rounds, and Muon's inner bfloat16 blows up, the order in which numbers are added."""


def torchrun(lines: list[list[str]], folder: Path, *, processes: int = 2) -> tuple[list[int], str]:
    """Run command lines one after another in processes started once; return the first one's exit codes, and stderr."""
    (folder / "lines.json").write_text(json.dumps(lines), encoding="utf-8")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*start, str(SCRIPT), str(folder / "lines.json"), str(folder / "codes.json")],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "codes.json").read_text(encoding="utf-8")), done.stderr


def inputs(mini: Mini, trainer: str) -> list[str | Path]:
    """Return a trainer's command line without --out and --config."""
    return {
        "pretrain": [mini.tokens, "--model", mini.model, "--questions", mini.train / "questions.jsonl"],
    }[trainer]


def cut(run: Path, to: Path, step: int = CUT) -> None:
    """Copy a run directory as a kill after the checkpoint of `step` would have left it."""
    shutil.copytree(run, to)
    (to / "DONE").unlink()
    shutil.rmtree(to / "model")
    for checkpoint in (to / "checkpoints").glob("step-*"):
        if checkpoint.name != f"step-{step:08d}":
            shutil.rmtree(checkpoint)
    assert list((to / "checkpoints").iterdir())


def figures(run: Path) -> list[dict[str, Any]]:
    """Return a run's metrics without what measures the machine."""
    return [{key: value for key, value in row.items() if key not in TIMING_KEYS} for row in read_metrics(run)]


def same_figures(run: Path, reference: Path) -> None:
    """Assert that every step's figures are equal within 1e-5, which float32 sums in another order stay below."""
    expected, found = figures(reference), figures(run)
    assert len(found) == len(expected) > CUT
    for row, wanted in zip(found, expected, strict=True):
        assert row.keys() == wanted.keys()
        for name, value in wanted.items():
            assert row[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-5, abs=1e-5)), name


def same_weights(run: Path, reference: Path) -> None:
    """Assert that the exported weights are equal within what such sums make of them."""
    files = sorted(file.relative_to(reference) for file in (reference / "model").rglob("*.safetensors"))
    assert files
    for file in files:
        expected, found = load_file(reference / file), load_file(run / file)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].dtype == value.dtype
            assert found[name].float().numpy() == pytest.approx(value.float().numpy(), rel=1e-4, abs=1e-4), name


@pytest.fixture(scope="module")
def runs(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Run each trainer alone, as copies, as shards, and from a lone run's checkpoint on: one start of torchrun."""
    from lavit_cli.main import run

    folder = tmp_path_factory.mktemp("processes")

    def line(trainer: str, kind: str, **more: Any) -> list[str]:
        step = trainer.removeprefix("train-")
        file = folder / f"{trainer}-{kind}.yaml"
        settings = {**SETTINGS[step], **EXACT, **TRAINERS[trainer], **more}
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return [
            trainer,
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
    codes, told = torchrun(lines, folder)
    assert codes == [0] * len(lines), told[-3000:]
    return lambda trainer, kind: folder / f"{trainer}-{kind}"


@pytest.mark.parametrize("kind", ["ddp", "fsdp", "grown"])
@pytest.mark.parametrize("trainer", TRAINERS)
def test_two_processes_train_what_one_trains(runs: Callable[[str, str], Path], trainer: str, kind: str) -> None:
    same_figures(runs(trainer, kind), runs(trainer, "alone"))
    same_weights(runs(trainer, kind), runs(trainer, "alone"))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_one_process_goes_on_where_two_stopped(
    mini: Mini, runs: Callable[[str, str], Path], here: Callable[..., Done], trainer: str
) -> None:
    sharded, shrunk = runs(trainer, "fsdp"), runs(trainer, "shrunk")
    cut(sharded, shrunk)
    config = sharded.with_suffix(".yaml")
    done = here(trainer, *inputs(mini, trainer), "--out", shrunk, "--config", config, "--quiet")
    assert done.code == 0, done.err
    same_figures(shrunk, runs(trainer, "alone"))
    same_weights(shrunk, runs(trainer, "alone"))


def test_what_processes_can_not_share_is_refused(mini: Mini, tmp_path: Path) -> None:
    alone = ["pretrain", *map(str, inputs(mini, "pretrain")), "--out", str(tmp_path / "run")]
    lines = [["eval", "list"], [*alone, "--set", "optimizer=muon", "--set", "parallel=fsdp"]]
    codes, told = torchrun(lines, tmp_path)
    assert codes == [2, 2]
    assert [line for line in told.splitlines() if line.startswith("error: ")] == [
        "error: lavit eval: works in one process, started by torchrun as 2; start it alone",
        "error: setting optimizer: muon with parallel: fsdp, but Muon turns whole matrices and fsdp holds a part of "
        "each; set optimizer to adamw, or parallel to ddp",
    ]
    assert not (tmp_path / "run").exists()

"""What reaches a tracker, and what is refused before a run begins."""

import importlib.metadata
import json
import os
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import PartialState
from lavit_core.errors import UsageError
from lavit_core.follow import TRACKERS, FollowOptions
from lavit_trainkit.samples import check_samples, unchanged
from lavit_trainkit.session import training_session
from lavit_trainkit.tracker import open_tracker
from torch import nn

SETTINGS = {"lr": 0.5, "betas": [0.9, 0.99], "llm": {"layers": 2}, "vae": None}


def follow_a_run(out: Path, follow: FollowOptions, *, stop: int, num_steps: int = 6) -> None:
    """Log a loss each step and show a sheet each third; end as if killed after `stop` steps."""
    PartialState()  # as a loop's accelerator
    with training_session(
        out, command="test", config=SETTINGS, inputs={}, num_steps=num_steps, follow=follow, quiet=True
    ) as session:
        session.resume()
        for step in range(session.start, stop):
            session.log(step + 1, "train", {"loss": 1 / (step + 1), "note": "text", "seconds": 1.0})
            if session.should_show(step + 1):
                session.show(step + 1, {"squares": np.full((8, 8, 3), 10 * step, dtype=np.uint8)})
            if session.should_save(step + 1, every=2):
                session.save(step + 1, {"model": {"weight": torch.zeros(1)}})


def test_tensorboard_has_the_rows_of_metrics_jsonl_also_after_a_restart(tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    follow = FollowOptions(tracker="tensorboard", sample_every=3)
    follow_a_run(tmp_path / "run", follow, stop=5)
    follow_a_run(tmp_path / "run", follow, stop=6)  # goes on from step 4
    events = reading.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [event.step for event in events.Scalars("loss")] == [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([row["loss"] for row in rows])
    assert sorted(events.Tags()["scalars"]) == ["loss", "seconds"], "step, phase and texts are no metrics"
    assert [event.step for event in events.Images("samples/squares")] == [3, 6]
    [stored] = (tmp_path / "run" / "tensorboard").glob("*/hparams.yml")
    assert stored.read_text().split() == [
        "betas:",
        "'[0.9,",
        "0.99]'",
        "llm.layers:",
        "2",
        "lr:",
        "0.5",
        "vae:",
        "None",
    ]
    assert sorted(file.name for file in (tmp_path / "run" / "samples").iterdir()) == [
        "00000003-squares.png", "00000006-squares.png",
    ]  # fmt: skip


def test_mlflow_keeps_everything_in_the_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    follow = FollowOptions(tracker="mlflow", sample_every=3)
    follow_a_run(tmp_path / "one", follow, stop=5)
    follow_a_run(tmp_path / "two", follow, stop=6)  # as steps of a quickstart: in one process
    follow_a_run(tmp_path / "one", follow, stop=6)  # goes on from step 4
    assert list((tmp_path / "here").iterdir()) == []
    assert "MLFLOW_TRACKING_URI" not in os.environ
    for name in ("one", "two"):
        folder = tmp_path / name / "mlflow"
        client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        [found] = client.search_runs([one.experiment_id for one in client.search_experiments()])
        assert found.info.run_id == json.loads((tmp_path / name / "tracker.json").read_text())["mlflow"]
        assert {row.step for row in client.get_metric_history(found.info.run_id, "loss")} == {1, 2, 3, 4, 5, 6}
        assert found.data.params["llm.layers"] == "2"
        assert sorted(file.name for file in folder.glob("artifacts/*/artifacts/samples/*")) == [
            "00000003-squares.png", "00000006-squares.png",
        ]  # fmt: skip


def test_without_a_tracker_samples_are_files(tmp_path: Path) -> None:
    follow_a_run(tmp_path, FollowOptions(sample_every=4), stop=6)
    assert sorted(file.name for file in (tmp_path / "samples").iterdir()) == [
        "00000004-squares.png", "00000006-squares.png",
    ]  # fmt: skip
    assert not (tmp_path / "tracker.json").exists()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_without_its_package_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def absent(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(UsageError) as caught:
        FollowOptions(tracker=name)
    assert str(caught.value) == f"--tracker {name}: its package is not installed; run `pip install {name}`"
    assert caught.value.exit_code == 2


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--tracker visdom: expected one of tensorboard, wandb, trackio, mlflow"):
        FollowOptions(tracker="visdom")


def test_a_tracker_that_can_not_start_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    PartialState()
    (tmp_path / "tensorboard").write_text("a file where the events would go")
    with pytest.raises(UsageError, match=r"--tracker tensorboard: .*; or leave --tracker out") as caught:
        open_tracker("tensorboard", tmp_path, {}, start=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("broken", "calls"),
    [
        ("search_experiments", ["set_tracking_uri", "search_experiments", "set_tracking_uri"]),
        (
            "log_params",
            ["set_tracking_uri", "search_experiments", "create_experiment", "start_run", "log_params", "end_run",
             "set_tracking_uri"],
        ),
    ],
)  # fmt: skip
def test_an_mlflow_that_can_not_start_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, calls: list[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made: list[tuple[str, tuple[object, ...]]] = []
    fake = ModuleType("mlflow")

    def add(name: str, value: object = None) -> None:
        def call(*given: object, **_: object) -> object:
            made.append((name, given))
            if name == broken:
                raise RuntimeError("the database is\nlocked")
            return value

        setattr(fake, name, call)

    add("search_experiments", [])
    for name in ("set_tracking_uri", "create_experiment", "start_run", "log_params", "end_run"):
        add(name)
    fake.utils = SimpleNamespace(validation=SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100))
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    PartialState()
    with pytest.raises(UsageError, match="--tracker mlflow: the database is locked; or leave --tracker out"):
        open_tracker("mlflow", tmp_path, SETTINGS, start=0)
    assert [name for name, _ in made] == calls
    places = [given for name, given in made if name == "set_tracking_uri"]
    assert places == [(f"sqlite:///{(tmp_path / 'mlflow').resolve() / 'mlflow.db'}",), (None,)]


def test_samples_of_a_sharded_network_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_samples(FollowOptions(sample_every=2), "fsdp")  # one process holds it whole
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_samples(FollowOptions(), "fsdp")
    with pytest.raises(UsageError, match="--sample-every with setting parallel: fsdp"):
        check_samples(FollowOptions(sample_every=2), "fsdp")


def test_looking_leaves_modes_and_random_streams_as_they_were() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    network[1].eval()

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = drawn()
    seed()

    def look() -> None:
        with unchanged(network):
            assert not network.training
            assert not torch.is_grad_enabled()
            drawn()
            raise KeyError

    with pytest.raises(KeyError):
        look()
    assert drawn() == expected
    assert torch.is_grad_enabled()
    assert [module.training for module in network] == [True, False]

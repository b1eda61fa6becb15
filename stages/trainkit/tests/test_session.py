"""A run from open to finish: resuming, stopping, saving, finishing."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lavit_core.errors import Interrupted, UsageError
from lavit_core.modeldir import export_part
from lavit_core.rundir import Diagnostic, read_metrics, read_warnings
from lavit_trainkit.session import training_session
from lavit_trainkit.testing import Killed, have_equal_weights, kill_at_step, metrics_of, stop_at_step
from safetensors.torch import save_file

NUM_STEPS = 7


def count_up(out: Path, *, every: int = 3, at_end: bool = True, seed: int = 0) -> dict[str, Any]:
    """A loop in small: it adds the step's number to a tensor."""
    with training_session(out, command="count", config={"seed": seed}, inputs={}, num_steps=NUM_STEPS) as session:
        if session.finished:
            return session.finished
        value = torch.zeros(2)
        if checkpoint := session.resume():
            value = checkpoint.tensors["model"]["value"]
            assert checkpoint.state == {"note": session.start}
        for step in range(session.start, NUM_STEPS):
            value = value + step
            done = step + 1
            session.log(done, "train", {"loss": float(value[0]), "seconds": step / 7})
            session.warn(done, "train", [Diagnostic("odd", f"step {done}")] if done == 2 else [])
            if session.should_save(done, every=every, at_end=at_end):
                session.save(done, {"model": {"value": value}}, {"note": done})
        with export_part(session.model, "encoder") as folder:
            save_file({"value": value}, folder / "model.safetensors")
        return session.finish({"value": float(value[0])})


def test_a_finished_run_answers_with_its_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert count_up(tmp_path) == count_up(tmp_path) == {"value": 21.0}
    assert capsys.readouterr().err.splitlines()[-1] == f"{tmp_path}: already finished"
    assert [row["step"] for row in read_metrics(tmp_path)] == list(range(1, NUM_STEPS + 1))
    assert list(read_metrics(tmp_path)[0]) == ["step", "phase", "loss", "seconds"]
    with pytest.raises(UsageError, match=r"seed = 0, now it is 1"):
        count_up(tmp_path, seed=1)


@pytest.mark.parametrize("damage", ["model", "model/lavit.json", "model/encoder", "model/encoder/model.safetensors"])
def test_a_finished_run_makes_a_lost_model_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    summary = count_up(tmp_path)
    before = (tmp_path / "model" / "encoder" / "model.safetensors").read_bytes()
    lost = tmp_path / damage
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    capsys.readouterr()
    assert count_up(tmp_path) == summary
    said = capsys.readouterr().err
    assert "the run was finished, and goes on from its newest checkpoint to export the model again" in said
    assert f"{tmp_path}: resuming from step 6 of 7" in said
    assert (tmp_path / "model" / "encoder" / "model.safetensors").read_bytes() == before
    assert count_up(tmp_path) == summary
    assert f"{tmp_path}: already finished" in capsys.readouterr().err


def test_a_killed_run_goes_on_from_its_checkpoint_with_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count_up(tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_at_step(patch, 5)
        with pytest.raises(Killed):
            count_up(tmp_path / "cut")
    assert [row["step"] for row in read_metrics(tmp_path / "cut")] == [1, 2, 3, 4, 5]  # past the checkpoint at 3
    assert count_up(tmp_path / "cut") == {"value": 21.0}
    assert f"{tmp_path / 'cut'}: resuming from step 3 of 7" in capsys.readouterr().err.splitlines()
    assert metrics_of(tmp_path / "cut") == metrics_of(tmp_path / "whole")
    assert "seconds" not in metrics_of(tmp_path / "cut")[0]
    assert [row["step"] for row in read_warnings(tmp_path / "cut")] == [2]
    assert have_equal_weights(tmp_path / "cut", tmp_path / "whole")


def test_a_stop_request_saves_at_once_and_is_told_with_exit_code_75(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at_step(patch, 4)
        with pytest.raises(Interrupted, match="at step 4 of 7, state saved") as caught:
            count_up(tmp_path)
    assert caught.value.exit_code == 75
    assert (tmp_path / "checkpoints" / "step-00000004").is_dir()
    assert count_up(tmp_path) == {"value": 21.0}


@pytest.mark.parametrize(("at_end", "saved"), [(True, [6, 7]), (False, [5, 6])])
def test_the_last_step_needs_no_checkpoint_where_a_loop_says_so(tmp_path: Path, at_end: bool, saved: list[int]) -> None:
    count_up(tmp_path, every=1, at_end=at_end)
    assert sorted(int(folder.name.removeprefix("step-")) for folder in (tmp_path / "checkpoints").iterdir()) == saved


def test_weights_that_differ_or_are_absent_are_not_equal(tmp_path: Path) -> None:
    count_up(tmp_path / "one")
    count_up(tmp_path / "other", every=2)
    assert not have_equal_weights(tmp_path / "one", tmp_path / "other")
    assert not have_equal_weights(tmp_path / "nothing", tmp_path / "nothing")

import contextlib
import fcntl
import importlib.metadata
import json
import subprocess
import sys

import pytest
import yaml
from lavit_core.config import Config
from lavit_core.errors import InputError, UsageError
from lavit_core.rundir import Diagnostic, flatten, open_run, read_metrics, read_warnings, versions

CONFIG = {"lr": 1e-05, "grid": (8, 8), "inner": {"layers": [1, 2]}, "name": None}


def opened(out, **changes):
    values = {"command": "train-x", "config": CONFIG, "inputs": {"data": "abc"}, **changes}
    return open_run(out, **values)


def test_same_command_reopens(tmp_path):
    out = tmp_path / "a" / "run"
    with opened(out) as run:
        assert run.done is None
        run.log({"step": 1, "loss": 0.5})
        assert run.checkpoints.is_dir()
    about = json.loads((out / "run.json").read_text())
    assert about["versions"]["lavit-core"]
    assert about["argv"] == sys.argv
    with opened(out) as run:
        run.finish({"steps": 1})
    with opened(out) as run:
        assert run.done == {"steps": 1}


def test_rewind_drops_later_rows_and_cut_lines(tmp_path):
    with opened(tmp_path) as run:
        for step in range(1, 6):
            run.log({"step": step})
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write('{"step": 6, "lo')
        run.rewind(3)
        run.log({"step": 4, "again": True})
        assert run.rows == read_metrics(tmp_path)
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3}, {"step": 4, "again": True}]


def test_a_kind_of_warning_is_said_once_a_run_and_again_after_a_rewind(tmp_path, capsys):
    low, high = Diagnostic("keep rate", "few are kept"), Diagnostic("diverging", "loss rises")
    with opened(tmp_path) as run:
        run.warn([low], step=20, phase="a")
        run.warn([low, high], step=40, phase="a")
    with opened(tmp_path) as run:
        run.warn([high], step=60, phase="b")
        assert [row["step"] for row in read_warnings(tmp_path)] == [20, 40]
        run.rewind(30)
        run.warn([low, high], step=50, phase="b")
    expected = [
        {"step": 20, "phase": "a", "kind": "keep rate", "message": "few are kept"},
        {"step": 50, "phase": "b", "kind": "diverging", "message": "loss rises"},
    ]
    assert read_warnings(tmp_path) == expected
    said = capsys.readouterr().err.splitlines()
    assert said == [f"warning: {tmp_path}, step {step}: {text}" for step, text in ((20, "few are kept"),
                    (40, "loss rises"), (50, "loss rises"))]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {**CONFIG, "lr": 2}}, r"started with config.lr = 1e-05, now it is 2; give another --out"),
        ({"config": {**CONFIG, "inner": {"layers": [1]}}}, r"config.inner.layers = \[1, 2\], now it is \[1\]"),
        ({"inputs": {"data": "abd"}}, r"inputs.data = 'abc', now it is 'abd'"),
        ({"command": "train-y", "inputs": {}}, r"command = 'train-x', now it is 'train-y' \(and inputs.data\)"),
        ({"config": {**CONFIG, **dict.fromkeys("abcdefg", 1)}}, r"\(and config\.b, config\.c, config\.d, 3 more\)"),
    ],
)
@pytest.mark.parametrize("left", ["metrics.jsonl", "checkpoints/step-000005", "DONE", "model"])
def test_other_settings_are_refused(tmp_path, changes, message, left):
    with opened(tmp_path):
        (tmp_path / left).write_text("")
    with pytest.raises(UsageError, match=message), opened(tmp_path, **changes):
        pass


@pytest.mark.parametrize("left", ["metrics.jsonl", "checkpoints/step-00000005", "DONE"])
def test_a_run_without_its_settings_is_not_resumed_under_others(tmp_path, left):
    with open_run(tmp_path, command="x", config={"lr": 1}, inputs={}):
        pass
    (tmp_path / "config.yaml").unlink()
    with open_run(tmp_path, command="x", config={"lr": 2}, inputs={}):  # killed before there were any
        pass
    (tmp_path / left).touch()
    (tmp_path / "config.yaml").unlink()
    refused = pytest.raises(InputError, match=r"config.yaml: missing, expected the settings of the run here")
    with refused, open_run(tmp_path, command="x", config={"lr": 2}, inputs={}):
        pass


class Inner(Config):
    size: int = 4
    added: tuple[int, ...] = (1, 2)


class Settings(Config):
    lr: float = 0.5
    inner: Inner = Inner()
    phases: tuple[Inner, ...] = ()
    added: str = "off"


def test_a_setting_that_came_later_counts_with_its_default(tmp_path):
    def begin(settings, old):
        run = opened(tmp_path, config={**settings.model_dump(mode="json"), "seed": 3}, settings=Settings)
        if old:
            with opened(
                tmp_path, config={"lr": 0.5, "inner": {"size": 4}, "phases": [{"size": 7}], "seed": 3}
            ) as before:
                before.log({"step": 1})
        return run

    with begin(Settings(phases=(Inner(size=7),)), old=True) as run:
        assert run.rows == [{"step": 1}]
    for changed, key in (
        ({"added": "on"}, "config.added = 'off', now it is 'on'"),
        ({"lr": 1.0}, "config.lr = 0.5"),
        ({"inner": Inner(added=(1,))}, r"config.inner.added = \[1, 2\], now it is \[1\]"),
        ({"phases": (Inner(size=8),)}, r"config.phases.0.size = 7, now it is 8; give"),
    ):
        settings = Settings(**{"phases": (Inner(size=7),), **changed})
        with pytest.raises(UsageError, match=key), begin(settings, old=False):
            pass


def test_items_of_a_list_of_settings_go_by_their_names():
    phases = [{"name": "masks", "lr": 1.0}, {"name": "codes", "lr": 2.0}]
    assert flatten({"phases": phases, "sides": (1, 2), "none": []}) == {
        "phases": ["masks", "codes"], "phases.masks.name": "masks", "phases.masks.lr": 1.0,
        "phases.codes.name": "codes", "phases.codes.lr": 2.0,
        "sides": [1, 2], "none": [],
    }  # fmt: skip
    assert flatten({"phases": phases[::-1]})["phases"] == ["codes", "masks"]
    assert flatten({"phases": [{"lr": 1.0}]}) == {"phases": ["0"], "phases.0.lr": 1.0}
    twice = flatten({"phases": [{"name": "masks", "lr": 1.0}, {"name": "masks", "lr": 2.0}]})
    assert (twice["phases.0.lr"], twice["phases.1.lr"]) == (1.0, 2.0)


def test_a_refusal_gives_the_command_line_that_started_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/lavit", "train-x", "--out", "a b"])
    with opened(tmp_path) as run:
        run.log({"step": 1})
    (tmp_path / "checkpoints" / "step-1").mkdir()
    with (
        pytest.raises(UsageError, match="it was started with: lavit train-x --out 'a b'"),
        opened(tmp_path, command="train-y"),
    ):
        pass


def test_a_run_that_left_nothing_begins_anew_with_other_settings(tmp_path):
    with contextlib.suppress(ValueError), opened(tmp_path):
        raise ValueError("unusable input")
    changes = {"command": "train-y", "config": {"lr": 2}, "inputs": {"data": "abd"}}
    with opened(tmp_path, **changes) as run:
        run.log({"step": 1})
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == changes
    with pytest.raises(UsageError, match="command = 'train-y', now it is 'train-x'"), opened(tmp_path):
        pass


def test_a_config_that_is_no_record_stays(tmp_path):
    (tmp_path / "config.yaml").write_text("name: mine\n")
    with pytest.raises(UsageError, match="started with name = 'mine', now it is None"), opened(tmp_path):
        pass
    assert (tmp_path / "config.yaml").read_text() == "name: mine\n"


def test_processes_that_say_so_share_a_run_and_its_record(tmp_path, monkeypatch):
    """Each opening has a file of its own, so locks of one process stand against each other as those of two."""
    with opened(tmp_path, shared=True):
        with opened(tmp_path, shared=True) as run:
            assert run.done is None
        with pytest.raises(UsageError, match=r"started with inputs.data = 'abc', now it is 'x'"):
            opened(tmp_path, shared=True, inputs={"data": "x"}).__enter__()
        with pytest.raises(InputError, match="another process is working here"):
            opened(tmp_path).__enter__()
    monkeypatch.setattr("lavit_core.rundir.SETUP_SECONDS", 0.0)
    with opened(tmp_path), pytest.raises(InputError, match="another process is working here"):
        opened(tmp_path, shared=True).__enter__()


def test_a_run_killed_while_its_settings_were_written_starts_over(tmp_path):
    with opened(tmp_path):
        pass
    (tmp_path / "config.yaml").rename(tmp_path / ".config.yaml.tmp")
    with opened(tmp_path):
        pass
    assert {file.name for file in tmp_path.iterdir()} == {".lock", "run.json", "config.yaml", "checkpoints"}


def test_two_processes_do_not_share_a_run(tmp_path):
    script = f"""
from pathlib import Path
from lavit_core.config import Config
from lavit_core.errors import InputError
from lavit_core.rundir import open_run
try:
    with open_run(Path({str(tmp_path)!r}), command="x", config={{}}, inputs={{}}): pass
except InputError as error:
    print(error)
"""
    with opened(tmp_path):
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert "another process is working here" in done.stdout
    with opened(tmp_path):
        pass


def test_a_lock_that_a_killed_process_leaves_for_a_moment_is_waited_for(tmp_path):
    """A child that a process had just started holds its lock until it runs its own program, or ends."""
    with opened(tmp_path):
        pass
    with open(tmp_path / ".lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = subprocess.Popen(["sleep", "0.5"], pass_fds=[lock.fileno()])
    with opened(tmp_path):
        assert child.poll() == 0 or child.wait(1) == 0


def test_out_that_is_a_file(tmp_path):
    (tmp_path / "x").write_text("")
    with (
        pytest.raises(UsageError, match=r"x: can't be a run directory \(File exists\); give another --out"),
        opened(tmp_path / "x"),
    ):
        pass


def test_damaged_config_is_named(tmp_path):
    with opened(tmp_path):
        pass
    (tmp_path / "config.yaml").write_text("[")
    with pytest.raises(InputError, match=r"config.yaml: not valid YAML"), opened(tmp_path):
        pass


def test_versions_name_what_is_installed():
    found = versions()
    assert {"python", "platform", "numpy", "pillow"} <= found.keys()
    ours = {dist.name for dist in importlib.metadata.distributions() if dist.name.startswith("lavit")}
    assert "lavit-core" in ours
    assert ours <= found.keys()

"""Several tasks fill one token directory: shards by number alone, one process a task, the last one finishes."""

import functools
import itertools
import json
import os
import signal
import time
import traceback

import pytest
from lavit_core.errors import ErrorBudgetExceeded, InputError, UsageError
from lavit_core.rundir import TIMING_KEYS
from lavit_core.tokens import open_tokens
from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.tasks import Task, running_tasks, start_task, sweep, temporary_shard, turn
from lavit_tokenizer.tokenize_images import tokenize_images

from .conftest import write_images

NUM_SHARDS = 8


def tokenize(data, model, out, *, task=Task(), retry_errors=False, **changes):
    values = {"workers": 0, "shard_samples": 5, "batch_size": 3, "max_error_rate": 0.1, **changes}
    config = TokenizeConfig.model_validate(values)
    return tokenize_images(data, model, out, config, device="cpu", task=task, retry_errors=retry_errors, quiet=True)


def content(folder):
    """Every file that a finished directory consists of; that there is nothing else is asserted."""
    names = {file.name for file in folder.iterdir()} - {".lock", ".tasks.lock", "run.json", "digests.json"}
    assert names == {"manifest.json", "errors.jsonl", "config.yaml", "DONE", *map(shard, range(NUM_SHARDS))}
    summary = json.loads((folder / "DONE").read_text())
    files = {name: (folder / name).read_bytes() for name in names - {"DONE"}}
    return files | {"DONE": {key: value for key, value in summary.items() if key not in TIMING_KEYS}}


def shard(number):
    return f"shard-{number:06d}.safetensors"


@pytest.fixture
def damaged(tmp_path):
    """40 images, of which two can't be read."""
    folder = write_images(tmp_path / "damaged", 40)
    (folder / "images" / "007.png").write_text("<html>not found</html>")
    (folder / "images" / "021.png").write_bytes(b"")
    return folder


@pytest.fixture
def whole(damaged, model, tmp_path):
    """What one undisturbed process writes."""
    tokenize(damaged, model, tmp_path / "whole")
    return content(tmp_path / "whole")


@pytest.mark.parametrize("of", [1, 2, 3, 11])
def test_every_shard_belongs_to_one_task(of):
    parts = [list(Task(number=number, of=of).shards(NUM_SHARDS)) for number in range(of)]
    assert sorted(itertools.chain(*parts)) == list(range(NUM_SHARDS))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_task_id_beyond_the_tasks_is_refused():
    with pytest.raises(UsageError, match=r"--task-id 3: expected 0 .. 2 \(--num-tasks 3\)"):
        Task(number=3, of=3)


def test_tasks_write_what_one_process_writes_and_the_last_one_finishes(damaged, model, whole, tmp_path, capsys):
    out = tmp_path / "tokens"
    first = tokenize(damaged, model, out, task=Task(number=2, of=3))
    assert (first["shards"], first["missing_shards"], first["missing_tasks"]) == (2, 6, [0, 1])
    told = capsys.readouterr().err
    assert "task 2 of 3 is done, 6 of 8 shards are missing; not running now: 0, 1 (unless a scheduler" in told
    with pytest.raises(InputError, match="not finished"):
        open_tokens(out)
    assert tokenize(damaged, model, out, task=Task(number=0, of=3), workers=1)["missing_tasks"] == [1]
    summary = tokenize(damaged, model, out, task=Task(number=1, of=3))
    assert (summary["images"], summary["errors"]) == (38, 2)
    assert content(out) == whole
    again = tokenize(damaged, model, out, task=Task(number=0, of=3))
    assert again["images"] == 38
    assert content(out) == whole
    assert tokenize(damaged, model, out)["images"] == 38  # one process sees that it is finished, too


def test_another_number_of_tasks_goes_on_with_the_shards_that_are_there(damaged, model, whole, tmp_path):
    out = tmp_path / "tokens"
    tokenize(damaged, model, out, task=Task(number=0, of=3))
    made = {file: file.stat().st_ino for file in out.glob("shard-*")}
    assert len(made) == 3
    tokenize(damaged, model, out, task=Task(number=1, of=2))
    tokenize(damaged, model, out)
    assert content(out) == whole
    assert {file: file.stat().st_ino for file in made} == made


def test_a_shard_that_is_lost_or_damaged_later_is_made_again_by_its_task(damaged, model, whole, tmp_path, capsys):
    out = tmp_path / "tokens"
    for number in range(3):
        tokenize(damaged, model, out, task=Task(number=number, of=3))
    (out / shard(4)).unlink()
    assert tokenize(damaged, model, out, task=Task(number=2, of=3))["missing_tasks"] == [1]
    damaged_shard = out / shard(7)
    damaged_shard.write_bytes(damaged_shard.read_bytes()[:-1] + b"\x00")
    tokenize(damaged, model, out, task=Task(number=1, of=3))
    assert content(out) == whole


def test_settings_and_the_error_budget_are_those_of_the_whole(damaged, model, tmp_path):
    out = tmp_path / "tokens"
    tokenize(damaged, model, out, task=Task(number=0, of=2), max_error_rate=0)
    with pytest.raises(UsageError, match=r"was started with config.selection = 'threshold', now it is 'topk'"):
        tokenize(damaged, model, out, task=Task(number=1, of=2), selection="topk")
    with pytest.raises(UsageError, match="--retry-errors with --num-tasks: leave --num-tasks out"):
        tokenize(damaged, model, out, task=Task(number=1, of=2), retry_errors=True)
    with pytest.raises(ErrorBudgetExceeded, match="2 of 40 images"):
        tokenize(damaged, model, out, task=Task(number=1, of=2), max_error_rate=0)
    with pytest.raises(ErrorBudgetExceeded, match="2 of 40 images"):
        tokenize(damaged, model, out, task=Task(number=0, of=2), max_error_rate=0)


def test_images_that_failed_are_read_again_while_the_directory_is_unfinished(damaged, model, tmp_path):
    out = tmp_path / "tokens"
    good = write_images(tmp_path / "good", 40) / "images"
    # The data set is known by names and sizes: the bad file has the size of the good one.
    (damaged / "images" / "007.png").write_bytes(bytes((good / "007.png").stat().st_size))
    tokenize(damaged, model, out, task=Task(number=1, of=2))
    (damaged / "images" / "007.png").write_bytes((good / "007.png").read_bytes())
    tokenize(damaged, model, out, retry_errors=True)
    tokenize(damaged, model, tmp_path / "clean")
    assert content(out) == content(tmp_path / "clean")


def test_a_directory_of_before_there_was_a_journal_is_taken_over(damaged, model, whole, tmp_path):
    """The manifest of such a directory has the shards so far."""
    from lavit_core.json_lines import read_json_lines, write_json_lines
    from lavit_core.tokens import read_manifest, write_manifest

    out = tmp_path / "tokens"
    tokenize(damaged, model, out)
    (out / "DONE").unlink()
    manifest = read_manifest(out)
    write_manifest(out, manifest.model_copy(update={"shards": manifest.shards[:2]}))
    write_json_lines(out / "errors.jsonl", read_json_lines(out / "errors.jsonl")[:1])
    kept = (out / shard(0)).stat().st_ino
    for number in range(2, NUM_SHARDS):
        (out / shard(number)).unlink()
    tokenize(damaged, model, out)
    assert content(out) == whole
    assert (out / shard(0)).stat().st_ino == kept


def test_a_task_runs_once_at_a_time_and_with_its_own_kind(tmp_path, monkeypatch):
    monkeypatch.setattr("lavit_tokenizer.tasks.RESTART_SECONDS", 0.0)
    one = Task(number=1, of=3)
    with turn(tmp_path, one):
        held = start_task(tmp_path, one)
    with held:
        with pytest.raises(InputError, match=r"task 1 of 3 is running already; wait for it or stop it"):
            start_task(tmp_path, one)
        with pytest.raises(InputError, match=r"task 1 of 3 is running; give --num-tasks 3 too, or wait for it"):
            start_task(tmp_path, Task(number=0, of=2))
        assert running_tasks(tmp_path, Task(number=0, of=3)) == [one]
        assert running_tasks(tmp_path, one) == []
        start_task(tmp_path, Task(number=0, of=3)).close()
    start_task(tmp_path, Task(number=0, of=2)).close()


def test_what_a_kill_left_of_a_shard_goes_when_its_task_starts(tmp_path):
    start_task(tmp_path, Task()).close()
    left = [temporary_shard(tmp_path, shard(number)) for number in (3, 4, 4)]
    for file in left:
        file.write_bytes(b"half")
    sweep(tmp_path, Task(number=1, of=3))
    assert [file.exists() for file in left] == [True, False, False]


def in_child(work, *, kill_at=0):
    """Fork a process that does `work` and dies by SIGKILL at its `kill_at`-th change of the disk; return its pid."""
    child = os.fork()
    if child:
        return child
    calls = itertools.count(1)

    def deadly(function):
        def call(*arguments, **options):
            if next(calls) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    code = 1
    try:
        for name in ("fsync", "replace", "unlink", "rmdir", "mkdir"):
            setattr(os, name, deadly(getattr(os, name)))
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the child must never go on as pytest
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(*children, seconds=60):
    """Return how each child ended: 0, or minus its signal."""
    codes, until = {}, time.monotonic() + seconds
    while len(codes) < len(children):
        for child in set(children) - set(codes):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                codes[child] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            for child in set(children) - set(codes):
                os.kill(child, signal.SIGKILL)
            pytest.fail("a child hung")
        time.sleep(0.01)
    return [codes[child] for child in children]


def killed_everywhere(damaged, model, whole, tmp_path, *, step, workers):
    """Kill one process at each `step`-th change of the disk, go on, and compare; return the number of kills."""
    for kills, point in enumerate(itertools.count(1, step)):
        out = tmp_path / f"killed-{workers}-{point}"
        work = functools.partial(tokenize, damaged, model, out, workers=workers)
        [code] = wait(in_child(work, kill_at=point))
        if code == 0:
            assert content(out) == whole
            return kills
        assert code == -signal.SIGKILL
        if workers:
            time.sleep(0.2)  # the kernel ends the decoding processes, which hold the lock, a moment later
        work()
        assert content(out) == whole, point
    return None


def killed_tasks(damaged, model, whole, tmp_path, *, points, workers):
    """Kill three tasks that run at the same time, each at its own change of the disk; start them again, all at once."""
    out = tmp_path / f"tasks-{points}"

    def start(number, kill_at=0):
        task = Task(number=number, of=3)
        return in_child(functools.partial(tokenize, damaged, model, out, task=task, workers=workers), kill_at=kill_at)

    # Who comes first makes the directory, and who comes last finishes it: only so many changes are sure.
    assert wait(*(start(number, point) for number, point in enumerate(points))).count(-signal.SIGKILL) >= 2
    assert wait(*map(start, range(3))) == [0, 0, 0]
    assert content(out) == whole


def test_a_kill_at_a_change_of_the_disk_loses_nothing(damaged, model, whole, tmp_path):
    assert killed_everywhere(damaged, model, whole, tmp_path, step=13, workers=0) >= 4


def test_killed_tasks_are_started_again_at_the_same_time(damaged, model, whole, tmp_path):
    killed_tasks(damaged, model, whole, tmp_path, points=(9, 12, 15), workers=0)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_a_kill_at_every_change_of_the_disk_loses_nothing(damaged, model, whole, tmp_path, workers):
    assert killed_everywhere(damaged, model, whole, tmp_path, step=1 if workers == 0 else 3, workers=workers) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_tasks_killed_at_many_places(damaged, model, whole, tmp_path, workers):
    for point in range(4, 14):
        killed_tasks(damaged, model, whole, tmp_path, points=(point, point + 2, point + 4), workers=workers)

"""A Ray cluster writes the bytes that one process writes, also when an actor is killed; refusals need no Ray."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lavit_core.errors import InputError, UsageError
from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.tasks import Task
from lavit_tokenizer.tokenize_images import tokenize_images

from .conftest import write_images

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray: pip install './stages/tokenizer[ray]'"
)
CONFIG = {"workers": 1, "shard_samples": 20, "batch_size": 4, "max_error_rate": 0.1, "features": True}
SCRIPT = """
import sys
from pathlib import Path
from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.tokenize_images import tokenize_images
data, model, out = map(Path, sys.argv[1:4])
config = TokenizeConfig.model_validate_json(sys.argv[4])
tokenize_images(data, model, out, config, device="cpu", engine="ray")
"""


def content(folder):
    files = [*folder.glob("shard-*"), folder / "manifest.json", folder / "errors.jsonl", folder / "config.yaml"]
    return {file.name: file.read_bytes() for file in files}


def test_what_does_not_go_with_ray_is_refused(data, model, tmp_path, monkeypatch):
    out, config = tmp_path / "tokens", TokenizeConfig()
    with pytest.raises(UsageError, match="--engine ray with --num-tasks: leave --num-tasks out"):
        tokenize_images(data, model, out, config, task=Task(number=0, of=2), engine="ray")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"Ray is not installed; pip install 'lavit-tokenizer\[ray\]'"):
        tokenize_images(data, model, out, config, engine="ray")
    assert not out.exists()


def parents(pid):
    """Return the processes above one."""
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return found
        found.append(pid)
    return found


def actors(driver):
    """Return the encoders that a driver's own cluster runs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if name.startswith(b"ray::Encoder") and driver in parents(int(entry.name)):
                found.append(int(entry.name))
    return found


def start(data, model, out):
    config = TokenizeConfig.model_validate(CONFIG).model_dump_json()
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, (data, model, out)), config],
        # Ray's workers give way to every other process of a machine; a test would wait for the others for ever.
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@needs_ray
@pytest.mark.slow
def test_killed_actors_and_drivers_change_no_byte(model, tmp_path):
    data = write_images(tmp_path / "data", 400)
    (data / "images" / "007.png").write_text("<html>not found</html>")
    (data / "images" / "231.png").write_bytes(b"")
    whole, out = tmp_path / "whole", tmp_path / "tokens"
    tokenize_images(data, model, whole, TokenizeConfig.model_validate(CONFIG), device="cpu", quiet=True)

    def shards():
        return len(list(out.glob("shard-*")))

    def until(ready, driver):
        limit = time.monotonic() + 280
        while not ready():
            assert driver.poll() is None, driver.communicate()[1]
            assert time.monotonic() < limit
            time.sleep(0.01)

    driver = start(data, model, out)
    until(lambda: shards() >= 2, driver)
    killed = actors(driver.pid)
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    before = shards()
    until(lambda: shards() > before + 1, driver)  # others were started in their place
    assert not set(actors(driver.pid)) & set(killed)
    driver.kill()
    driver.wait()
    assert 2 <= shards() < 20
    time.sleep(2)
    driver = start(data, model, out)
    told = driver.communicate(timeout=240)[1]
    assert driver.returncode == 0, told
    assert content(out) == content(whole)
    assert not (out / "journal").exists()


@needs_ray
@pytest.mark.slow
def test_sigterm_stops_a_driver_with_its_state_saved(model, tmp_path):
    data, out = write_images(tmp_path / "data", 400), tmp_path / "tokens"
    driver = start(data, model, out)
    limit = time.monotonic() + 280
    while len(list(out.glob("shard-*"))) < 2:
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < limit
        time.sleep(0.01)
    driver.send_signal(signal.SIGTERM)
    told = driver.communicate(timeout=60)[1]
    assert "state saved; run the same command to go on" in told
    assert not (out / "manifest.json").exists()
    assert 1 <= len((out / "journal" / "task-00000-of-00001.jsonl").read_text().splitlines()) < 20


@needs_ray
def test_a_cluster_that_is_not_there_is_one_line(data, model, tmp_path):
    config = TokenizeConfig.model_validate(CONFIG)
    with pytest.raises(InputError, match=r"--ray-address 127\.0\.0\.1:9: no Ray cluster"):
        tokenize_images(
            data, model, tmp_path / "tokens", config, device="cpu", engine="ray", ray_address="127.0.0.1:9", quiet=True
        )

"""Shared by the tests that cross distributions: one miniature quickstart, run once, with the network shut."""

import dataclasses
import fcntl
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# pytest's importlib mode leaves sys.path alone: let test files import their neighbours here.
sys.path.insert(0, str(Path(__file__).parent))

from commandline import MINI, Done, Mini, environment, lavit
from lavit_core.files import write_json, write_text

from lavit_cli.main import main

SHUT = """
import json, os, socket
LOG = os.environ["LAVIT_SOCKET_LOG"]
def refuse(name):
    def call(*arguments, **options):
        with open(LOG, "a") as handle:
            handle.write(json.dumps([name, repr(arguments[-1])]) + "\\n")
        raise OSError(f"the network is shut in this test: {name} {arguments[-1]!r}")
    return call
class Shut(socket.socket):
    def connect(self, address):
        return super().connect(address) if self.family == socket.AF_UNIX else refuse("connect")(address)
    connect_ex = connect
socket.socket = Shut
socket.getaddrinfo = refuse("getaddrinfo")
socket.gethostbyname = refuse("gethostbyname")
"""
"""A sitecustomize that refuses and records every attempt to reach anything beyond this machine, in children too."""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all of pytest-xdist's workers see: each has a base of its own inside it."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def shut_env(shared: Path) -> dict[str, str]:
    """Environment of a child process that can't reach the network; LAVIT_SOCKET_LOG names the file of its attempts."""
    folder = shared / "shut"
    folder.mkdir(exist_ok=True)
    with open(shared / "shut.lock", "w", encoding="utf-8") as lock:  # workers begin at the same moment
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_text(folder / "sitecustomize.py", SHUT)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return environment(PYTHONPATH=path, LAVIT_SOCKET_LOG=str(folder / "sockets.jsonl"))


@pytest.fixture(scope="session")
def mini(shared: Path, shut_env: dict[str, str]) -> Mini:
    """Run every stage in miniature, once for all tests: the first worker that needs it does, others wait."""
    run, told = shared / "mini" / "demo", shared / "mini.json"
    with open(shared / "mini.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if told.exists():
            done = Done(**json.loads(told.read_text(encoding="utf-8")))
        else:
            done = lavit("quickstart", "--out", run, "--config", MINI, env=shut_env)
            write_json(told, dataclasses.asdict(done))
    assert done.code == 0, done.err
    return Mini(run=run, done=done, sockets=Path(shut_env["LAVIT_SOCKET_LOG"]), env=shut_env)


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Give a function that runs a command line in this process: a child would import torch anew."""
    monkeypatch.setenv("LAVIT_DEBUG", "0")

    def run(*arguments: str | Path) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Done(code=end.value.code, out=captured.out, err=captured.err)

    return run

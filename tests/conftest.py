"""Shared by the tests that cross distributions: one miniature quickstart, run once, with the network shut."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# pytest's importlib mode leaves sys.path alone: let test files import their neighbours here.
sys.path.insert(0, str(Path(__file__).parent))

from commandline import MINI, Done, Mini, environment, lavit

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
def shut_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a child process that can't reach the network; LAVIT_SOCKET_LOG names the file of its attempts."""
    folder = tmp_path_factory.mktemp("shut")
    (folder / "sitecustomize.py").write_text(SHUT, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return environment(PYTHONPATH=path, LAVIT_SOCKET_LOG=str(folder / "sockets.jsonl"))


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory, shut_env: dict[str, str]) -> Mini:
    """Run every stage in miniature, once for all tests."""
    run = tmp_path_factory.mktemp("mini") / "demo"
    done = lavit("quickstart", "--out", run, "--config", MINI, env=shut_env)
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

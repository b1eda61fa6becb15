"""Command lines in child processes, as a person types them."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

MINI = Path(__file__).parent / "mini.yaml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def last_error(self) -> str:
        """The one line that says what went wrong."""
        return next((line for line in reversed(self.err.splitlines()) if line.startswith("error: ")), "")


def environment(**more: str) -> dict[str, str]:
    """The environment of every child: one thread, for the machine is shared."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def lavit(*arguments: str | Path, env: dict[str, str] | None = None) -> Done:
    """Run a command line to its end."""
    command = [sys.executable, "-m", "lavit_cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env or environment(), check=False)
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


def start(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command line and return its process."""
    command = [sys.executable, "-m", "lavit_cli", *map(str, arguments)]
    return subprocess.Popen(
        command, env=env or environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def wait_for(ready: Callable[[], bool], child: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until something is there; a child that ends before that is a failure."""
    until = time.monotonic() + seconds
    while not ready():
        if child.poll() is not None or time.monotonic() > until:
            pytest.fail(f"ended with {child.returncode} too early: {child.communicate()[1]}")
        time.sleep(0.005)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mini:
    """A finished miniature quickstart."""

    run: Path
    done: Done
    sockets: Path
    env: dict[str, str]

    @property
    def model(self) -> Path:
        """Model directory with every part."""
        return self.run / "model"

    @property
    def train(self) -> Path:
        """The images it was trained on."""
        return self.run / "data" / "train"

    @property
    def heldout(self) -> Path:
        """The images it was not trained on."""
        return self.run / "data" / "heldout"

    @property
    def tokens(self) -> Path:
        """Token files of the training images."""
        return self.run / "tokens" / "train"

    @property
    def summary(self) -> dict:
        """What summary.json says."""
        return json.loads((self.run / "summary.json").read_text(encoding="utf-8"))

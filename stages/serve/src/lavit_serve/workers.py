"""Several server processes on one address, each with the model on a device of its own; uvicorn looks after them."""

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import uvicorn
from lavit_core.errors import InputError, LavitError
from lavit_core.file_lock import try_lock
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess

from lavit_serve.app import new_app
from lavit_serve.config import ServeSettings
from lavit_serve.gate import App
from lavit_serve.server import Opened, check_model, open_model, url_of, uvicorn_config
from lavit_serve.service import new_service

UNANSWERED_SECONDS = 120
"""A process that does not answer uvicorn for so long hangs, and is killed: imports and large batches take long."""

_held: list[TextIO] = []
"""The lock on this process's GPU: it goes with the process."""


def run_workers(
    opened: Opened, bound: socket.socket, settings: ServeSettings, *, count: int, api_key: str | None, seed: int,
    quiet: bool, announce: Callable[[str], None],
) -> None:  # fmt: skip
    """Serve with `count` processes until SIGTERM or SIGINT; each answers what it has in hand first.

    The system hands each new connection to one of them. One that ends by itself is started again. `announce` is told
    the address, once all take requests. Raises InputError if one can't load the model.
    """
    check_model(opened)  # one line for what is missing, before several processes say it
    with tempfile.TemporaryDirectory() as shared:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared  # in it prometheus_client adds up what the processes count
        app = functools.partial(
            _worker_app, opened, settings, api_key=api_key, seed=seed, quiet=quiet, locks=Path(shared)
        )
        config = uvicorn_config(
            app, settings, factory=True, workers=count, timeout_worker_healthcheck=UNANSWERED_SECONDS
        )
        supervisor = _Supervisor(config, bound, announce)
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise InputError(f"{opened.folder}: a process could not load the model; what it said is above")


class _Supervisor(Multiprocess):
    """uvicorn's supervisor, which also says where it listens once all processes do."""

    def __init__(self, config: uvicorn.Config, bound: socket.socket, announce: Callable[[str], None]) -> None:
        super().__init__(config, sockets=[bound])
        self._announce: Callable[[str], None] | None = announce

    def keep_subprocess_alive(self) -> None:
        """Start processes again that have ended, and forget what they had in hand."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for gone in before - {process.pid for process in self.processes}:
            mark_process_dead(gone)
        if self._announce is not None and all(process.is_ready() for process in self.processes):
            self._announce(url_of(self.sockets[0]))
            self._announce = None


def _worker_app(
    opened: Opened, settings: ServeSettings, *, api_key: str | None, seed: int, quiet: bool, locks: Path
) -> App:
    """Return the application of one process, its model loaded."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        model = open_model(dataclasses.replace(opened, device=_own_device(opened.device, locks)))
    except LavitError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(STARTUP_FAILURE) from None
    return new_app(new_service(model, opened.folder, settings, seed=seed), api_key=api_key, quiet=quiet)


def _end_with_parent() -> None:
    """End this process, what it has in hand answered, when the one that started it is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _own_device(device: str, locks: Path) -> str:
    """Return the first GPU that no other process of this server has, where the device is not named; else the device."""
    import torch

    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    for number in range(torch.cuda.device_count()):
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(open(locks / f"gpu-{number}.lock", "a", encoding="utf-8"))
            if try_lock(lock):
                _held.append(lock)
                stack.pop_all()
                return f"cuda:{number}"
    raise InputError(f"{torch.cuda.device_count()} GPUs, and more --workers; name a --device that they are to share")

"""One server process: its socket, its model, its signals."""

import contextlib
import dataclasses
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from lavit import LaVIT
from lavit_core.errors import InputError

from lavit_serve.config import ServeSettings
from lavit_serve.gate import App

PARTS = ("tokenizer", "llm", "detokenizer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A model directory and how it is opened; several processes can be told of it."""

    folder: Path
    device: str = "auto"
    precision: str = "auto"
    preset: str | None = None
    highres: bool = False


def open_model(opened: Opened) -> LaVIT:
    """Open a model directory and load all its parts. Raises InputError if one is missing or another's."""
    model = check_model(opened)
    # All of it: the first request waits for nothing, and what is damaged is found now.
    model.decode(model.encode(_grey(model)), settings=model.draw_settings(num_steps=1))
    model.caption(_grey(model), max_tokens=1)
    return model


def check_model(opened: Opened) -> LaVIT:
    """Open a model directory, and load nothing yet. Raises InputError if a part is missing or another's."""
    return LaVIT.from_pretrained(
        opened.folder,
        parts=PARTS,
        device=opened.device,
        precision=opened.precision,
        preset=opened.preset,
        highres=opened.highres,
    )


def bind(host: str, port: int, unread_seconds: float) -> socket.socket:
    """Return a socket that has the address but does not listen yet. Its connections are cut when their client reads
    nothing of what is sent for `unread_seconds`. Raises InputError if somebody else has the address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. An answer that nobody reads would hold its connection, and the end of this process.
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(unread_seconds * 1000))
        bound.bind(address)
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: {error.strerror}; another --port may be free") from None
    return bound


def run_server(app: App, bound: socket.socket, settings: ServeSettings, announce: Callable[[str], None]) -> None:
    """Serve an application until SIGTERM or SIGINT.

    Then nothing new is taken, what is in hand is answered, and this returns.

    `announce` is told the address, once requests are taken.
    """
    with _drained_quietly():
        _Server(uvicorn_config(app, settings), announce).run(sockets=[bound])


def uvicorn_config(app: App | Callable[[], App], settings: ServeSettings, **more: Any) -> uvicorn.Config:
    """Return how uvicorn runs an application, or a function that returns one."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.time_limit_seconds) + 1,
        **more,
    )


def url_of(bound: socket.socket) -> str:
    """Return the address of the API on a socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


class _Server(uvicorn.Server):
    """A server that says where it listens, once it does."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for bound in sockets or ():
            self._announce(url_of(bound))
        sys.stdout.flush()


@contextlib.contextmanager
def _drained_quietly() -> Iterator[None]:
    """Let uvicorn, which raises a signal again after it has drained, find somebody who expects it."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _grey(model: LaVIT) -> np.ndarray:
    return np.full((model.image_px, model.image_px, 3), 127, dtype=np.uint8)

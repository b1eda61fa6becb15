"""What every request passes before the API sees it: host, key, bounds of count, size and time. ASGI, outermost.

A body is read whole, up to its bound, before anything else happens; a client that goes away cancels its request.
"""

import asyncio
import os
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lavit_serve.config import THIS_MACHINE, ServeSettings
from lavit_serve.errors import ApiError, error_response, server_failed
from lavit_serve.metrics import Metrics

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/health", "/ready")
"""Answered without a key."""
DISCARD_SECONDS = 5
"""How long the body of a refused request is read and dropped: a closed connection would hide the answer."""
UNCOUNTED = 1 << 16
"""Largest body, in bytes, of requests that are no POST: nothing bounds how many of them there are at a time."""
CLIENT_GONE = 499
"""Status, in logs and metrics, of a request whose client did not wait for the answer."""


class _ClientGoneError(Exception):
    """The client closed the connection."""


@dataclass(kw_only=True)
class _Exchange:
    """One request and what has been answered."""

    scope: Scope
    receive: Receive
    downstream: Send
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    began: float = field(default_factory=time.monotonic)
    status: int | None = None
    complete: bool = False

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    async def send(self, message: Message) -> None:
        """Pass a message on, and note what it says."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), (b"x-request-id", self.id.encode())]}
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        await self.downstream(message)

    async def refuse(self, error: ApiError) -> None:
        """Answer with an error."""
        await error_response(error)(self.scope, self.receive, self.send)

    def header(self, name: str) -> str:
        """Return a header of the request, "" without it."""
        found = dict(self.scope["headers"]).get(name.encode(), b"")
        return bytes(found).decode("latin-1")


def add_gate(app: App, settings: ServeSettings, api_key: str | None, metrics: Metrics, *, quiet: bool = False) -> App:
    """Return `app` behind the gate; a line a request goes to stderr unless `quiet`, without prompts and images."""
    in_hand = 0

    async def gated(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal in_hand
        if scope["type"] != "http":
            return await app(scope, receive, send)
        exchange = _Exchange(scope=scope, receive=receive, downstream=send)
        # What needs the model comes by POST; health and metrics are answered however much of it there is.
        counted = scope["method"] == "POST"
        refusal = check_head(exchange, settings, api_key)
        if refusal is None and counted and in_hand >= settings.max_requests:
            busy = f"{settings.max_requests} requests are in hand; try again later"
            refusal = ApiError(429, busy, code="rate_limit_exceeded")
        admitted = counted and refusal is None
        in_hand += admitted
        metrics.in_hand.set(in_hand)
        try:
            if refusal is not None:
                await _discard(exchange, settings.max_body_bytes)
                await exchange.refuse(refusal)
            else:
                await _answer(app, exchange, settings)
        except _ClientGoneError:
            exchange.status = CLIENT_GONE
        # Nothing above could show it better, and a trace belongs to no client.
        except Exception as error:  # noqa: BLE001
            await _report_bug(exchange, error)
        finally:
            in_hand -= admitted
            metrics.in_hand.set(in_hand)
            _note(exchange, metrics, quiet)
        return None

    return gated


def check_head(exchange: _Exchange, settings: ServeSettings, api_key: str | None) -> ApiError | None:
    """Return why a request is refused by its head alone; None if it is not."""
    if api_key is None:
        # A page from elsewhere, in a browser here, could give this address a name of its own, or post forms to it.
        hosts = [exchange.header("host"), *filter(None, [exchange.header("origin").rpartition("//")[2]])]
        if any(_name_of(host.lower()) not in THIS_MACHINE for host in hosts):
            message = "this server answers to 127.0.0.1 and localhost only; give it a key to use other names"
            return ApiError(403, message)
    if api_key is not None and exchange.path not in OPEN_PATHS:
        kind, _, given = exchange.header("authorization").partition(" ")
        # Compared as bytes, in constant time.
        if kind.lower() != "bearer" or not secrets.compare_digest(given.strip().encode("latin-1"), api_key.encode()):
            return ApiError(401, "wrong or missing key; send `Authorization: Bearer KEY`", code="invalid_api_key")
    length = exchange.header("content-length")
    if length and (not length.isdecimal() or int(length[:20]) > settings.max_body_bytes):
        return _too_large(settings.max_body_bytes)
    return None


def _name_of(host: str) -> str:
    """Return the name in NAME:PORT or [ADDRESS]:PORT."""
    return host[1 : host.index("]")] if host.startswith("[") and "]" in host else host.partition(":")[0]


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the body is larger than {most} bytes", code="request_too_large")


async def _answer(app: App, exchange: _Exchange, settings: ServeSettings) -> None:
    """Run the app on the body; on time, and for as long as the client is there. Raises _ClientGoneError."""
    until = exchange.began + settings.time_limit_seconds
    most = settings.max_body_bytes if exchange.scope["method"] == "POST" else min(UNCOUNTED, settings.max_body_bytes)
    late = ApiError(504, f"no answer within {settings.time_limit_seconds:g} s", code="timeout")
    try:
        async with asyncio.timeout(settings.time_limit_seconds):
            body = await _read(exchange.receive, most)
    except TimeoutError:
        return await exchange.refuse(late)
    if body is None:
        await _discard(exchange, settings.max_body_bytes)
        return await exchange.refuse(_too_large(most))
    task = asyncio.ensure_future(app(exchange.scope, _replay(body), exchange.send))
    gone = asyncio.ensure_future(_wait_until_gone(exchange.receive))
    try:
        await asyncio.wait({task, gone}, timeout=until - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and not exchange.complete:
            if gone.done():
                raise _ClientGoneError
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if exchange.status is None:
                return await exchange.refuse(late)
            # What was sent can't be taken back: without its end, the server closes the connection.
            exchange.status = late.status
            return None
        await task
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
    return None


async def _read(receive: Receive, most: int) -> bytes | None:
    """Return the body, None if it is too large. Raises _ClientGoneError."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _ClientGoneError
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > most:
            return None
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _discard(exchange: _Exchange, most: int) -> None:
    """Read and drop a body that nobody wants, for a while. Raises _ClientGoneError."""
    size = 0
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while size <= 4 * most:
                message = await exchange.receive()
                if message["type"] != "http.request":
                    raise _ClientGoneError
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _replay(body: bytes) -> Receive:
    """Return a receive that gives the body once, and then nothing until it is cancelled."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets was set")

    return receive


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _report_bug(exchange: _Exchange, error: Exception) -> None:
    """Write the kind of a failure to stderr (its message may quote a prompt), and answer with 500 if nothing was."""
    if os.environ.get("LAVIT_DEBUG") == "1":
        traceback.print_exception(error)
    sys.stderr.write(f"error: request {exchange.id}: {type(error).__name__} (a bug; --debug shows its trace)\n")
    if exchange.status is None:
        await exchange.refuse(server_failed())


def _note(exchange: _Exchange, metrics: Metrics, quiet: bool) -> None:
    seconds, status = time.monotonic() - exchange.began, exchange.status or CLIENT_GONE
    # A path that no route has may say anything.
    route = getattr(exchange.scope.get("route"), "path", None) or "other"
    metrics.requests.labels(route, str(status)).inc()
    metrics.seconds.labels(route).observe(seconds)
    if not quiet:
        method = exchange.scope["method"] if exchange.scope["method"].isalpha() else "other"
        sys.stderr.write(f"{exchange.id} {method} {route} {status} {seconds:.3f} s\n")

"""What every request passes: key, host, bounds of count, size and time; failures and clients that go."""

import asyncio
import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lavit import LaVIT
from lavit_serve.batcher import Batcher
from lavit_serve.config import ServeSettings
from lavit_serve.gate import add_gate
from lavit_serve.metrics import new_metrics
from lavit_serve.service import Service, new_service
from lavit_serve.work import Step

from .serving import DRAW, IMAGES, client_of, client_of_service, refused


def test_a_key_is_asked_for(model: LaVIT) -> None:
    async def scenario() -> None:
        async with client_of(model, api_key="schlüssel") as client:
            for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
                answer = await client.get(path)
                refused(answer, 401, "wrong or missing key")
                assert answer.headers["www-authenticate"] == "Bearer"
            for given in ("Bearer wrong", "Bearer", "Basic schlüssel", "Bearer schlüssel "):
                answer = await client.get("/v1/models", headers={"authorization": given.encode()})
                assert answer.status_code == (200 if given.startswith("Bearer schl") else 401), given
            assert (await client.get("/health")).status_code == (await client.get("/ready")).status_code == 200

    asyncio.run(scenario())


def test_without_a_key_other_host_names_are_refused(model: LaVIT) -> None:
    async def scenario() -> None:
        async with client_of(model) as client:
            for host, status in (("127.0.0.1:8000", 200), ("LocalHost", 200), ("[::1]:80", 200), ("evil.example", 403)):
                answer = await client.get("/v1/models", headers={"host": host})
                assert answer.status_code == status, host
            for origin, status in (("http://localhost:3000", 200), ("https://evil.example", 403), ("null", 403)):
                answer = await client.get("/v1/models", headers={"origin": origin})
                assert answer.status_code == status, origin
            form = await client.post(IMAGES, content=b'{"prompt": "x"}', headers={"content-type": "text/plain"})
            refused(form, 400)
            for host in ("127.0.0.1:8000", "localhost"):
                answer = await client.get("/v1/models", headers={"host": host})
                # A page of another origin is told nothing that would let its browser read the answer.
                assert not [name for name in answer.headers if name.startswith("access-control")]
        async with client_of(model, api_key="k", headers={"authorization": "Bearer k"}) as client:
            assert (await client.get("/v1/models", headers={"host": "inner.example"})).status_code == 200

    asyncio.run(scenario())


def test_large_bodies_are_refused_unread(model: LaVIT) -> None:
    async def pieces() -> Any:
        for _ in range(100):
            yield b" " * 1000

    async def scenario() -> None:
        async with client_of(model, max_body_bytes=2000) as client:
            told = await client.post(IMAGES, content=b" " * 2001)
            untold = await client.post(IMAGES, content=pieces())
            for answer in (told, untold):
                refused(answer, 413, "larger than 2000 bytes")
            assert (await client.post(IMAGES, json=DRAW)).status_code == 200
        async with client_of(model) as client:
            refused(await client.request("GET", "/health", content=b" " * 70_000), 413, "larger than 65536 bytes")

    asyncio.run(scenario())


@dataclasses.dataclass
class Slow:
    """A computation that takes steps until it is let go, and notes how it ended."""

    go: bool = False
    steps: int = 0
    ended: str = ""

    def compute(self, works: Any, report: Any) -> list[Any]:
        import time

        try:
            while not self.go:
                time.sleep(0.005)
                self.steps += 1
                report(0, Step(stage="codes", step=self.steps, num_steps=0))
        except Exception as error:
            self.ended = type(error).__name__
            raise
        raise RuntimeError("prompt: a secret")


def slow_service(model: LaVIT, slow: Slow, **settings: Any) -> Service:
    chosen = ServeSettings(batch_wait_seconds=0, **settings)
    batcher = Batcher(slow.compute, max_rows=1, wait_seconds=0)
    return dataclasses.replace(new_service(model, Path("no folder"), chosen), batcher=batcher)


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def test_more_requests_than_the_bound_get_429(model: LaVIT) -> None:
    async def scenario() -> None:
        slow = Slow()
        async with client_of_service(slow_service(model, slow, max_requests=2)) as client:
            taken = [asyncio.create_task(client.post(IMAGES, json=DRAW)) for _ in range(2)]
            await until(lambda: slow.steps > 0)
            answer = await client.post(IMAGES, json=DRAW)
            refused(answer, 429, "2 requests are in hand")
            assert answer.headers["retry-after"] == "1"
            assert (await client.get("/health")).status_code == 200
            assert "lavit_requests_in_hand 2.0" in (await client.get("/metrics")).text
            slow.go = True
            assert [answer.status_code for answer in await asyncio.gather(*taken)] == [500, 500]
            assert "lavit_requests_in_hand 0.0" in (await client.get("/metrics")).text

    asyncio.run(scenario())


def test_a_request_that_takes_too_long_gets_504_and_its_batch_ends(model: LaVIT) -> None:
    async def scenario() -> None:
        slow = Slow()
        async with client_of_service(slow_service(model, slow, time_limit_seconds=0.2)) as client:
            answer = await client.post(IMAGES, json=DRAW)
            refused(answer, 504, "no answer within 0.2 s")
            assert answer.headers["x-should-retry"] == "false"
            await until(lambda: slow.ended == "_AbandonedError")
            assert (await client.get("/ready")).status_code == 200

    asyncio.run(scenario())


def test_a_client_that_goes_takes_its_request_with_it(model: LaVIT) -> None:
    """Over the ASGI protocol itself: httpx's transport does not send a disconnect."""

    async def scenario() -> None:
        slow = Slow()
        service = slow_service(model, slow)
        gone = asyncio.Event()
        messages = [{"type": "http.request", "body": b'{"prompt": "x"}', "more_body": False}]

        async def receive() -> dict:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict) -> None:
            pytest.fail(f"nobody is there to read {message}")

        from lavit_serve.app import new_app

        app = new_app(service, quiet=True)
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http", "method": "POST", "path": IMAGES, "raw_path": IMAGES.encode(), "headers": headers,
            "query_string": b"", "http_version": "1.1", "scheme": "http",
        }  # fmt: skip
        service.batcher.start()
        request = asyncio.create_task(app(scope, receive, send))
        await until(lambda: slow.steps > 2)
        gone.set()
        await asyncio.wait_for(request, 20)
        await until(lambda: slow.ended == "_AbandonedError")
        service.batcher.stop()
        assert 'status="499"' in service.metrics.as_text()

    asyncio.run(scenario())


def test_a_bug_shows_neither_trace_nor_prompt(
    model: LaVIT, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAVIT_DEBUG", "0")

    async def scenario() -> None:
        async with client_of_service(slow_service(model, Slow(go=True))) as client:
            answer = await client.post(IMAGES, json=DRAW)
            refused(answer, 500, "the server failed")
            for shown in (answer.text, *capsys.readouterr()):
                assert "secret" not in shown
                assert "Traceback" not in shown

    asyncio.run(scenario())


def test_the_log_has_a_line_a_request_without_its_words(model: LaVIT, capsys: pytest.CaptureFixture[str]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async def scenario() -> None:
        gated = add_gate(app, ServeSettings(), None, new_metrics())
        transport = httpx2.ASGITransport(gated)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post("/a%0Asecret?prompt=secret", content=b"secret")
            logged = capsys.readouterr().err
            assert logged.startswith(f"{answer.headers['x-request-id']} POST other 200 ")
            assert logged.count("\n") == 1
            assert "secret" not in logged

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(scenario())

"""Whatever is sent, it is the sender's fault: no answer is a 5xx, each has OpenAI's shape, nothing piles up."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lavit import LaVIT
from lavit_core.images import png_bytes

from .serving import CHAT, DRAW, EDITS, IMAGES, TOKENS, client_of, uri_of

FORM = "multipart/form-data; boundary=b"
PATHS = (IMAGES, EDITS, CHAT, TOKENS, f"{TOKENS}/images", "/v1/models", "/v1/models/x", "/metrics", "/openapi.json")

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | st.just("<image>")
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def loop_and_client(model: LaVIT) -> Iterator[tuple[asyncio.AbstractEventLoop, httpx2.AsyncClient]]:
    """One service for all examples."""
    loop = asyncio.new_event_loop()
    opened = client_of(model, max_body_bytes=100_000, max_pixels=100_000)
    client = loop.run_until_complete(opened.__aenter__())
    yield loop, client
    loop.run_until_complete(opened.__aexit__(None, None, None))
    loop.close()


def valid_bodies(uri: str) -> dict[str, dict[str, Any]]:
    turn = {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "x"}],
    }
    draw = {**DRAW, "n": 1, "seed": 1, "guidance_scale": 2.0, "top_k": 3, "top_p": 0.5, "stream": False, "num_steps": 1}
    return {
        IMAGES: draw,
        CHAT: {"messages": [turn], "model": "lavit", "max_tokens": 2, "temperature": 0, "stream": False},
        TOKENS: {"images": [uri], "selection": "topk", "tokens": 2, "seed": 0},
        f"{TOKENS}/images": {"codes": [[1, 2]], "seed": 0, "num_steps": 1},
    }


@st.composite
def spoiled(draw: st.DrawFn, bodies: dict[str, dict[str, Any]]) -> tuple[str, bytes]:
    """Return a path and a body that was valid until one value, at any depth, was replaced."""
    path = draw(st.sampled_from(sorted(bodies)))
    body = json.loads(json.dumps(bodies[path]))
    place: Any = body
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        inner = place[key]
        if not (isinstance(inner, dict | list) and inner) or draw(st.booleans()):
            break
        place = inner
    place[key] = draw(VALUES)
    return path, json.dumps(body).encode("utf-8", "surrogatepass")


def check(answer: httpx2.Response) -> None:
    """Check that an answer is a success or a client's error in OpenAI's shape."""
    assert answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text
    if answer.status_code >= 400:
        assert set(answer.json()) == {"error"}
        assert answer.json()["error"]["message"]


def test_valid_bodies_are_valid(loop_and_client: Any, images: Any) -> None:
    loop, client = loop_and_client
    for path, body in valid_bodies(uri_of(images[0])).items():
        assert loop.run_until_complete(client.post(path, json=body)).status_code == 200, path


NO_IMAGE = base64.b64encode(b"no image")
BODIES = valid_bodies("data:image/png;base64," + NO_IMAGE.decode())

HEADS = (b"content-disposition: form-data; name=", b"content-type: text/plain; charset=x", b"")
ODD = (
    b"[" * 50_000,
    b'{"n": ' + b"9" * 5000 + b"}",
    b"\xff\xfe{}",
    b"null",
    b'{"prompt": "\\ud800"}',
    b'--b\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\nx\r\n--b--\r\n',
    b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n' + b"x" * 90_000 + b"\r\n--b--\r\n",
    b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n\xff\xfe\r\n--b--\r\n',
    b'--b\r\ncontent-disposition: form-data; name="prompt"',
)


@st.composite
def nonsense(draw: st.DrawFn) -> dict[str, Any]:
    """Return a request whose method, type and content have nothing to do with its path."""
    head, rest = draw(st.sampled_from(HEADS)) + draw(st.binary(max_size=40)), draw(st.binary(max_size=40))
    part = b"--b\r\n" + head + b"\r\n\r\n" + rest + b"\r\n--b--"
    kind = draw(st.sampled_from(("application/json", FORM, "multipart/form-data", "text/plain", "", "x")))
    return {
        "url": draw(st.sampled_from(PATHS)),
        "method": draw(st.sampled_from(("GET", "POST", "POST", "POST", "PUT", "DELETE", "OPTIONS"))),
        "content": draw(st.binary(max_size=200) | st.just(part) | st.sampled_from(ODD)),
        "headers": {"content-type": kind},
    }


def examples(count: int) -> settings:
    """Return how many requests a test sends: the same ones in each run."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=quiet)


def send(loop_and_client: Any, **request: Any) -> None:
    """Send a request and check its answer."""
    loop, client = loop_and_client
    check(loop.run_until_complete(client.request(**request)))


def send_spoiled(loop_and_client: Any, images: Any, sent: tuple[str, bytes]) -> None:
    """Send a spoiled body, with a whole image in place of its text."""
    path, body = sent
    content = body.replace(NO_IMAGE, base64.b64encode(png_bytes(images[0])))
    send(loop_and_client, method="POST", url=path, content=content, headers={"content-type": "application/json"})


@examples(20)
@given(sent=spoiled(BODIES))
def test_one_wrong_value(loop_and_client: Any, images: Any, sent: tuple[str, bytes]) -> None:
    send_spoiled(loop_and_client, images, sent)


@examples(40)
@given(request=nonsense())
def test_no_request_at_all(loop_and_client: Any, request: dict[str, Any]) -> None:
    send(loop_and_client, **request)


@pytest.mark.slow
@examples(500)
@given(sent=spoiled(BODIES))
def test_many_wrong_values(loop_and_client: Any, images: Any, sent: tuple[str, bytes]) -> None:
    send_spoiled(loop_and_client, images, sent)


@pytest.mark.slow
@examples(500)
@given(request=nonsense())
def test_many_that_are_no_requests(loop_and_client: Any, request: dict[str, Any]) -> None:
    send(loop_and_client, **request)


def test_nothing_is_left_in_hand(loop_and_client: Any) -> None:
    loop, client = loop_and_client
    text = loop.run_until_complete(client.get("/metrics")).text
    assert "lavit_requests_in_hand 0.0" in text
    assert "lavit_requests_waiting 0.0" in text

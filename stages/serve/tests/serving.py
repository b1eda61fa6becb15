"""The API in this process, and images as clients send and read them."""

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from lavit import LaVIT
from lavit_core.images import png_bytes
from lavit_serve.app import new_api
from lavit_serve.config import ServeSettings
from lavit_serve.gate import add_gate
from lavit_serve.service import Service, new_service
from PIL import Image

IMAGES = "/v1/images/generations"
EDITS = "/v1/images/edits"
CHAT = "/v1/chat/completions"
TOKENS = "/v1/tokens"

DRAW = {"prompt": "a red circle", "num_steps": 2}
"""A request of one image, soon drawn."""


@asynccontextmanager
async def client_of(
    model: LaVIT, *, api_key: str | None = None, headers: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    """Give a client of a model's service under settings, without a socket."""
    async with client_of_service(
        new_service(model, Path("no folder"), ServeSettings(**settings)), api_key, headers
    ) as client:
        yield client


@asynccontextmanager
async def client_of_service(
    service: Service, api_key: str | None = None, headers: dict[str, str] | None = None
) -> AsyncIterator[httpx2.AsyncClient]:
    """Give a client of a service whose batches run while it is open."""
    api = new_api(service)
    app = add_gate(api, service.settings, api_key, service.metrics, quiet=True)
    async with (
        api.router.lifespan_context(api),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://127.0.0.1",
            headers=headers,
            timeout=60,
        ) as client,
    ):
        yield client


def uri_of(image: np.ndarray) -> str:
    """Return an image as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()


def shown(image: np.ndarray, text: str = "") -> dict[str, Any]:
    """Return a user's turn of an image and, if given, a text."""
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": uri_of(image)}}]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}] if text else parts}


def pixels_of(answer: httpx2.Response) -> list[np.ndarray]:
    """Return the images of an answer, int16 [h, w, 3]."""
    assert answer.status_code == 200, answer.text
    return [decoded(row["b64_json"]) for row in answer.json()["data"]]


def decoded(b64: str) -> np.ndarray:
    """Return an image of an answer as int16 [h, w, 3]."""
    return as_pixels(Image.open(io.BytesIO(base64.b64decode(b64))))


def as_pixels(image: Image.Image) -> np.ndarray:
    """Return an image as int16 [h, w, 3]: differences do not wrap."""
    return np.asarray(image, dtype=np.int16)


def refused(answer: httpx2.Response, status: int, message: str = "") -> None:
    """Check that an answer is an error in OpenAI's shape, of this status and with these words."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]
    assert "Traceback" not in answer.text

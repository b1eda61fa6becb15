"""OpenAI's own client, unchanged: its calls, its streams, its error classes."""

import asyncio
import base64
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from lavit import LaVIT
from lavit_core.images import png_bytes

from .serving import client_of, decoded, shown

openai = pytest.importorskip("openai", reason="pip install openai: the client that this tests")

FEW = {"num_steps": 2}


@asynccontextmanager
async def openai_of(model: LaVIT, *, key: str = "none", **settings: Any) -> Any:
    """Give OpenAI's client of a model's service; it never repeats a request."""
    async with client_of(model, **settings) as http:
        yield openai.AsyncOpenAI(base_url="http://127.0.0.1/v1", api_key=key, http_client=http, max_retries=0)


def test_images_edits_and_chat(model: LaVIT, images: np.ndarray) -> None:
    async def scenario() -> None:
        async with openai_of(model) as client:
            assert [one.id async for one in client.models.list()] == ["lavit"]
            assert (await client.models.retrieve("lavit")).owned_by == "lavit"
            asked = {"model": "lavit", "prompt": "a red circle"}
            drawn = await client.images.generate(**asked, n=2, size="16x16", extra_body={**FEW, "seed": 3})
            assert [decoded(one.b64_json).shape for one in drawn.data] == [(16, 16, 3)] * 2
            stream = await client.images.generate(**asked, stream=True, extra_body={**FEW, "seed": 3})
            events = [event async for event in stream]
            assert [event.type for event in events[-2:]] == ["image_generation.progress", "image_generation.completed"]
            assert events[-1].b64_json == drawn.data[0].b64_json
            content = png_bytes(images[0])
            for files in (content, [("a.png", content), ("b.png", content)]):
                edited = await client.images.edit(image=files, prompt="blue", model="lavit", extra_body=FEW)
                assert decoded(edited.data[0].b64_json).shape == (16, 16, 3)
            said = await client.chat.completions.create(model="lavit", messages=[shown(images[0])])
            assert said.choices[0].message.content == model.caption(images[0])[0]
            turns = [shown(images[0]), said.choices[0].message, {"role": "user", "content": "what is blue?"}]
            assert (await client.chat.completions.create(model="lavit", messages=turns)).choices[0].message.content
            chunks = await client.chat.completions.create(model="lavit", messages=[shown(images[0])], stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
            assert text == said.choices[0].message.content

    asyncio.run(scenario())


def test_errors_are_the_client_s_own(model: LaVIT, images: np.ndarray) -> None:
    async def scenario() -> None:
        async with openai_of(model, api_key="right", key="right", max_body_bytes=5000) as client:
            asked = {"model": "lavit", "prompt": "a red circle", "extra_body": FEW}
            assert (await client.images.generate(**asked)).data
            with pytest.raises(openai.AuthenticationError, match="wrong or missing key"):
                await client.with_options(api_key="wrong").images.generate(**asked)
            with pytest.raises(openai.NotFoundError, match="the model 'lavit' only"):
                await client.images.generate(**{**asked, "model": "gpt-image-1"})
            with pytest.raises(openai.BadRequestError, match="size: expected auto or one of 16x16") as error:
                await client.images.generate(**asked, size="1024x1024")
            assert error.value.param == "size"
            with pytest.raises(openai.APIStatusError, match="larger than 5000 bytes") as large:
                await client.images.edit(image=base64.b64decode("A" * 8000), prompt="x", model="lavit")
            assert large.value.status_code == 413
            url = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}
            messages = [{"role": "user", "content": [url]}]
            with pytest.raises(openai.BadRequestError, match="this server fetches no address"):
                await client.chat.completions.create(model="lavit", messages=messages)
        async with openai_of(model, time_limit_seconds=0.000001) as client:
            with pytest.raises(openai.InternalServerError, match="no answer within") as late:
                await client.images.generate(**asked)
            assert late.value.status_code == 504

    asyncio.run(scenario())

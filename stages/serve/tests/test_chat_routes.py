"""Captions and answers over HTTP are those of the model."""

import asyncio
import json

import numpy as np
import pytest
from lavit import LaVIT

from .serving import CHAT, client_of, refused, shown

QUESTION, SECOND = "what is blue?", "a red circle"


def test_captions_questions_and_turns(model: LaVIT, images: np.ndarray) -> None:
    async def scenario() -> None:
        async with client_of(model) as client:

            async def said(*messages: dict, **more: object) -> dict:
                answer = await client.post(CHAT, json={"messages": list(messages), "model": "lavit", **more})
                assert answer.status_code == 200, answer.text
                return answer.json()

            def text(answer: dict) -> str:
                return answer["choices"][0]["message"]["content"]

            image = images[0]
            captioned = await said(shown(image))
            assert text(captioned) == model.caption(image)[0]
            assert text(await said(shown(image), max_completion_tokens=2)) == model.caption(image, max_tokens=2)[0]
            first = await said(shown(image, QUESTION))
            assert text(first) == model.answer(image, QUESTION)[0]
            blind = await said({"role": "user", "content": QUESTION})
            assert text(blind) == model.answer(None, QUESTION)[0]
            # Clients send an answer back as they got it, with its empty fields.
            spoken = {**first["choices"][0]["message"], "tool_calls": None, "annotations": []}
            second = await said(shown(image, QUESTION), spoken, {"role": "user", "content": SECOND})
            assert text(second) == model.answer(image, SECOND, earlier=[[(QUESTION, text(first))]])[0]
            assert captioned["choices"][0]["finish_reason"] == "length"
            assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"] > 0

    asyncio.run(scenario())


def test_several_images_are_read_where_they_stand(model: LaVIT, images: np.ndarray) -> None:
    async def scenario() -> None:
        async with client_of(model, max_images=3) as client:

            async def said(*messages: dict) -> str:
                answer = await client.post(CHAT, json={"messages": list(messages), "max_tokens": 5})
                assert answer.status_code == 200, answer.text
                return answer.json()["choices"][0]["message"]["content"]

            part, other = (shown(image)["content"][0] for image in images[:2])
            texts = [{"type": "text", "text": text} for text in ("one", " or ", "two?")]
            both = {"role": "user", "content": [texts[0], part, texts[1], other, texts[2]]}
            asked = ["one", images[0], "or", images[1], "two?"]
            first = await said(both)
            assert first == model.answer(None, [asked], max_tokens=5)[0]
            turn = {"role": "assistant", "content": first}
            expected = model.answer(None, [[images[2], QUESTION]], earlier=[[(asked, first)]], max_tokens=5)[0]
            assert await said(both, turn, shown(images[2], QUESTION)) == expected
            # Requests about no image, one and several share a batch.
            plain, single = {"role": "user", "content": QUESTION}, shown(images[3], QUESTION)
            together = await asyncio.gather(said(plain), said(both), said(single))
            assert together == [
                model.answer(None, QUESTION, max_tokens=5)[0], first, model.answer(images[3], QUESTION, max_tokens=5)[0]
            ]  # fmt: skip
            # One image is read first, wherever it is shown.
            late = await said(plain, turn, shown(images[0], SECOND))
            assert late == model.answer(images[0], SECOND, earlier=[[(QUESTION, first)]], max_tokens=5)[0]
            four = {"role": "user", "content": [part] * 4 + texts}
            refused(await client.post(CHAT, json={"messages": [four]}), 400, "found 4, expected at most 3 images")

    asyncio.run(scenario())


def test_marks_that_a_client_writes_stand_for_no_image(model: LaVIT, images: np.ndarray) -> None:
    async def scenario() -> None:
        async with client_of(model) as client:

            async def said(*messages: dict) -> str:
                answer = await client.post(CHAT, json={"messages": list(messages), "max_tokens": 5})
                assert answer.status_code == 200, answer.text
                return answer.json()["choices"][0]["message"]["content"]

            one, two = images[:2]
            assert await said(shown(one, "<image>")) == model.caption(one, max_tokens=5)[0]
            turn, marked = {"role": "assistant", "content": "<image>"}, {"role": "user", "content": f"<image> {SECOND}"}
            expected = model.answer(one, SECOND, earlier=[[(QUESTION, "<image>")]], max_tokens=5)[0]
            assert await said(shown(one, f"<image>{QUESTION}"), turn, marked) == expected
            assert await said(marked) == model.answer(None, SECOND, max_tokens=5)[0]
            before = {"type": "text", "text": f"{QUESTION} <image><image>"}
            both = {"role": "user", "content": [before, *shown(one)["content"], *shown(two, "<image>")["content"]]}
            assert await said(both) == model.answer(None, [[QUESTION, one, two]], max_tokens=5)[0]
            alone = {"role": "user", "content": "<image>"}
            refused(await client.post(CHAT, json={"messages": [alone]}), 400, "messages.0: it has no text")

    asyncio.run(scenario())


def test_a_stream_is_the_same_text_in_events(model: LaVIT, images: np.ndarray) -> None:
    async def scenario() -> None:
        async with client_of(model) as client:
            body = {"messages": [shown(images[0])], "stream": True, "stream_options": {"include_usage": True}}
            answer = await client.post(CHAT, json=body)
            events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
            assert events.pop() == "[DONE]"
            first, last, usage = map(json.loads, events)
            assert first["choices"][0]["delta"] == {"role": "assistant", "content": model.caption(images[0])[0]}
            assert last["choices"][0]["finish_reason"] == "length"
            assert usage["choices"] == []
            assert usage["usage"]["completion_tokens"] == 36

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("roles", "change", "message"),
    [
        (("system", "user"), {}, "messages.0: role system, but this model knows user and assistant only"),
        (("user", "user"), {}, "messages.1: expected user and assistant in turn"),
        (("assistant",), {}, "messages.0: expected user and assistant in turn"),
        (("user", "assistant"), {}, "messages: expected a user's turn at the end"),
        (("user",), {"temperature": 0.7}, "temperature: one text is written greedily, so 0 is the only value"),
        (("user",), {"n": 2}, "n: one text is written greedily, so 1 is the only value"),
        (("user",), {"max_tokens": 1, "max_completion_tokens": 1}, "give one"),
        (("user",), {"max_tokens": 1000}, "more than the language model's 128 positions"),
        (("user",), {"tools": []}, "tools: not known here"),
    ],
)
def test_what_the_model_cannot_is_refused(model: LaVIT, roles: tuple, change: dict, message: str) -> None:
    async def scenario() -> None:
        async with client_of(model) as client:
            messages = [{"role": role, "content": "what?"} for role in roles]
            refused(await client.post(CHAT, json={"messages": messages, **change}), 400, message)

    asyncio.run(scenario())


def test_images_that_are_refused(model: LaVIT, blind_model: LaVIT, images: np.ndarray) -> None:
    def at(url: str) -> dict:
        return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}

    async def scenario() -> None:
        async with client_of(model, max_pixels=300) as client:
            for url in ("http://127.0.0.1:1/a.png", "file:///etc/passwd", "https://example.com/a.png", "data:,x"):
                refused(await client.post(CHAT, json=at(url)), 400, "this server fetches no address")
            refused(await client.post(CHAT, json=at("data:image/png;base64,@")), 400, "not base64")
            refused(await client.post(CHAT, json=at("data:image/png;base64,AAAA")), 400, "not a readable image")
            large = shown(np.zeros((20, 20, 3), np.uint8))
            refused(
                await client.post(CHAT, json={"messages": [large]}), 400, "20x20 pixels, more than the limit of 300"
            )
            bare = {"role": "user", "content": [*shown(images[0])["content"], *shown(images[1])["content"]]}
            refused(await client.post(CHAT, json={"messages": [bare]}), 400, "messages.0: it has no text")
            empty = {"messages": [{"role": "user", "content": " "}]}
            refused(await client.post(CHAT, json=empty), 400, "messages.0: it has no text")
        async with client_of(blind_model) as client:
            refused(await client.post(CHAT, json={"messages": [shown(images[0])]}), 400, "trained without images")

    asyncio.run(scenario())

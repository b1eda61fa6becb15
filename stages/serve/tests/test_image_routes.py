"""Images over HTTP are those of the model, alone and in company."""

import asyncio
import json

import numpy as np
import pytest
from lavit import LaVIT
from lavit_core.images import png_bytes

from .serving import DRAW, EDITS, IMAGES, as_pixels, client_of, decoded, pixels_of, refused


def test_images_are_those_of_generate(model: LaVIT) -> None:
    async def scenario() -> None:
        async with client_of(model, max_batch=1) as client:
            answer = await client.post(IMAGES, json={**DRAW, "n": 2, "seed": 5, "size": "16x16"})
            drawn = pixels_of(answer)
            assert [row["seed"] for row in answer.json()["data"]] == [5, 6]
            for seed, image in zip((5, 6), drawn, strict=True):
                [expected] = model.generate("a red circle", seeds=seed, drawing=model.draw_settings(num_steps=2))
                assert np.array_equal(image, as_pixels(expected))

            guided = {"guidance_scale": 1.5, "decoder_guidance_scale": 2, "temperature": 0.5, "top_k": 3, "top_p": 0.9}
            [image] = pixels_of(await client.post(IMAGES, json={**DRAW, **guided}))
            [expected] = model.generate(
                "a red circle",
                guidance_scale=1.5,
                sampling=model.sample_settings(temperature=0.5, top_k=3, top_p=0.9),
                drawing=model.draw_settings(num_steps=2, guidance_scale=2),
            )
            assert np.array_equal(image, as_pixels(expected))
            assert not np.array_equal(image, drawn[0])

    asyncio.run(scenario())


def test_requests_that_arrive_together_share_a_batch_and_nothing_else(model: LaVIT) -> None:
    prompts = ["a red circle", "blue", "", "what is a red circle, a blue circle and a red circle?", "a blue circle"]
    drawing = model.draw_settings(num_steps=2)

    async def scenario() -> None:
        async with client_of(model, batch_wait_seconds=0.3) as client:
            bodies = [{**DRAW, "prompt": prompt, "seed": seed} for seed, prompt in enumerate(prompts)]
            unguided = [{**body, "guidance_scale": 1} for body in bodies[:2]]
            answers = await asyncio.gather(*(client.post(IMAGES, json=body) for body in (*bodies, *unguided)))
            text = (await client.get("/metrics")).text
            # One batch of each guidance: five and two images.
            assert "lavit_batch_rows_count 2.0" in text
            assert "lavit_batch_rows_sum 7.0" in text
        for answer, body in zip(answers, (*bodies, *unguided), strict=True):
            scale = body.get("guidance_scale")
            alone = model.generate(body["prompt"], seeds=body["seed"], guidance_scale=scale, drawing=drawing)[0]
            # Sums of another batch may round another way; the codes are the same.
            assert np.abs(pixels_of(answer)[0] - as_pixels(alone)).max() <= 1

    asyncio.run(scenario())


def test_progress_is_streamed_and_the_images_are_the_same(model: LaVIT) -> None:
    async def scenario() -> None:
        async with client_of(model, max_batch=1) as client:
            whole = pixels_of(await client.post(IMAGES, json={**DRAW, "n": 2}))
            answer = await client.post(IMAGES, json={**DRAW, "n": 2, "stream": True})
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
            steps = [event for event in events if event["type"] == "image_generation.progress"]
            assert [step["stage"] for step in steps] == sorted(step["stage"] for step in steps)
            assert {step["stage"] for step in steps} == {"codes", "pixels"}
            assert steps[-1]["step"] == steps[-1]["num_steps"] == 2
            done = [event for event in events if event["type"] == "image_generation.completed"]
            assert [event["index"] for event in done] == [0, 1]
            assert all(np.array_equal(decoded(event["b64_json"]), one) for event, one in zip(done, whole, strict=True))
            too_long = {**DRAW, "prompt": "blue " * 200, "stream": True}
            refused(await client.post(IMAGES, json=too_long), 400, "more than the language model's 128 positions")

    asyncio.run(scenario())


def test_edits_are_drawings_of_prompts_with_images(model: LaVIT, images: np.ndarray) -> None:
    files = [("image[]", (f"{place}.png", png_bytes(images[place]))) for place in range(2)]
    form = {"num_steps": "2", "seed": "3", "n": "1"}
    drawing = model.draw_settings(num_steps=2)

    async def scenario() -> None:
        async with client_of(model, max_batch=1) as client:
            for text, pieces in (
                ("a red circle", [images[0], images[1], "a red circle"]),
                ("<image> a red circle <image>", [images[0], "a red circle", images[1]]),
            ):
                answer = await client.post(EDITS, data={**form, "prompt": text}, files=files)
                [expected] = model.generate([pieces], seeds=3, drawing=drawing)
                assert np.array_equal(pixels_of(answer)[0], as_pixels(expected))
            one = [("image", ("a.png", png_bytes(images[0])))]
            message = "2 <image> but 1 images"
            refused(await client.post(EDITS, data={"prompt": "<image><image>"}, files=one), 400, message)
            refused(await client.post(EDITS, data={"prompt": "x"}), 400, "multipart/form-data")
            refused(await client.post(EDITS, files=one), 400, "prompt: Field required")
            masked = [*one, ("mask", ("a.png", png_bytes(images[0])))]
            refused(await client.post(EDITS, data={"prompt": "x"}, files=masked), 400, "mask: no file is read here")
            refused(
                await client.post(EDITS, data={"prompt": "x"}, files=[("image", b"no")]), 400, "not a readable image"
            )

    asyncio.run(scenario())


def test_sizes_are_those_the_detokenizer_was_trained_on(sized_model: LaVIT) -> None:
    async def scenario() -> None:
        async with client_of(sized_model) as client:
            [entry] = (await client.get("/v1/models")).json()["data"]
            assert entry["lavit"]["sizes"] == ["16x16", "24x16", "16x24"]
            for size, shape in (("24x16", (16, 24, 3)), ("16x24", (24, 16, 3)), ("auto", (16, 16, 3))):
                [image] = pixels_of(await client.post(IMAGES, json={**DRAW, "size": size, "seed": 4}))
                assert image.shape == shape
                drawing = sized_model.draw_settings(num_steps=2, size=None if size == "auto" else size)
                [expected] = sized_model.generate("a red circle", seeds=4, drawing=drawing)
                assert np.array_equal(image, as_pixels(expected))
            answer = await client.post(IMAGES, json={**DRAW, "size": "32x16"})
            refused(answer, 400, "size: expected auto or one of 16x16, 24x16, 16x24")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "1024x1024"}, "size: expected auto or one of 16x16"),
        ({"n": 11}, "n: found 11, expected at most 10"),
        ({"n": 0}, "n: Input should be greater than or equal to 1"),
        ({"response_format": "url"}, "response_format: "),
        ({"quality": "hd"}, "quality: not known here"),
        ({"prompt": "a <image>"}, "1 <image> but 0 images"),
        ({"prompt": None}, "prompt: Input should be a valid string"),
        ({"prompt": "blue " * 200}, "more than the language model's 128 positions"),
        ({"num_steps": 5000}, "num_steps: 5000, expected at most"),
        ({"guidance_scale": -1}, "guidance_scale: "),
    ],
)
def test_what_cannot_be_drawn_is_refused(model: LaVIT, change: dict, message: str) -> None:
    async def scenario() -> None:
        async with client_of(model) as client:
            refused(await client.post(IMAGES, json={**DRAW, **change}), 400, message)
            refused(await client.post(IMAGES, json={**DRAW, "model": "other"}), 404, "has the model 'lavit' only")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("content", "header"),
    [(json.dumps(DRAW), "application/x-www-form-urlencoded"), ("{", "application/json"), ("", "application/json")],
)
def test_a_body_that_is_no_json_is_told_how_to_be_sent(model: LaVIT, content: str, header: str) -> None:
    async def scenario() -> None:
        async with client_of(model) as client:
            answer = await client.post(IMAGES, content=content, headers={"content-type": header})
            refused(answer, 400, "the body is no JSON object; send one, with the header content-type: application/json")
            assert answer.json()["error"]["param"] is None

    asyncio.run(scenario())


def test_a_blind_model_edits_no_images(blind_model: LaVIT, images: np.ndarray) -> None:
    async def scenario() -> None:
        async with client_of(blind_model) as client:
            files = [("image", ("a.png", png_bytes(images[0])))]
            refused(await client.post(EDITS, data={"prompt": "x"}, files=files), 400, "trained without images")

    asyncio.run(scenario())

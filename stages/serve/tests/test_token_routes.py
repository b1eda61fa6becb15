"""Tokens over HTTP are those of the model, and codes draw the images that it decodes them to."""

import asyncio

import numpy as np
from lavit import LaVIT

from .serving import TOKENS, as_pixels, client_of, pixels_of, refused, uri_of


def test_images_to_codes_and_back(model: LaVIT, images: np.ndarray) -> None:
    expected = model.encode(list(images[:2]), selection="topk", tokens=4)
    drawing = model.draw_settings(num_steps=2)

    async def scenario() -> None:
        async with client_of(model, max_batch=1) as client:
            body = {"images": [uri_of(image) for image in images[:2]], "selection": "topk", "tokens": 4}
            answer = (await client.post(TOKENS, json=body)).json()
            assert (answer["grid"], answer["codebook_size"]) == ([4, 4], 24)
            for place, row in enumerate(answer["data"]):
                assert row["codes"] == expected.codes[place].tolist()
                assert row["kept"] == np.flatnonzero(expected.keep_mask[place]).tolist()
            codes = [row["codes"] for row in answer["data"]]
            drawn = await client.post(f"{TOKENS}/images", json={"codes": codes, "seed": 4, "num_steps": 2})
            for seed, image in zip((4, 5), pixels_of(drawn), strict=True):
                [alone] = model.decode([expected.codes[seed - 4]], seeds=seed, settings=drawing)
                assert np.array_equal(image, as_pixels(alone))

    asyncio.run(scenario())


def test_what_is_no_image_or_no_code_is_refused(model: LaVIT, images: np.ndarray) -> None:
    async def scenario() -> None:
        async with client_of(model) as client:
            uri = uri_of(images[0])
            refused(await client.post(TOKENS, json={"images": []}), 400, "images: ")
            refused(await client.post(TOKENS, json={"images": [uri] * 11}), 400, "expected at most 10 images")
            refused(await client.post(TOKENS, json={"images": [uri], "selection": "topk", "tokens": 17}), 400, "17")
            refused(await client.post(TOKENS, json={"images": [uri], "selection": "all"}), 400, "selection: ")
            for codes in ([[24]], [[0] * 17], [[-1]], [[]], []):
                refused(await client.post(f"{TOKENS}/images", json={"codes": codes}), 400, "codes")
            refused(await client.post(f"{TOKENS}/images", json={"codes": [[1]], "n": 2}), 400, "codes of 1 images")

    asyncio.run(scenario())

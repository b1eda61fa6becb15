"""What the page's tabs answer, against the model itself."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit import LaVIT
from lavit_core.errors import UsageError
from lavit_core.shown_images import enlarge
from lavit_serve import page_answers as answers
from lavit_serve.config import ServeSettings
from lavit_serve.errors import ApiError
from lavit_serve.service import Service, new_service


def with_service(model: LaVIT, use: Any) -> Any:
    """Return what `use(service)` returns while the service's batches run; each is of one image, so pixels are exact."""

    async def run() -> Any:
        service = new_service(model, Path("no folder"), ServeSettings(max_batch=1))
        service.batcher.start()
        try:
            return await use(service)
        finally:
            service.batcher.stop()

    return asyncio.run(run())


def test_drawing_tells_of_its_steps_and_ends_with_the_models_own_images(model: LaVIT) -> None:
    async def use(service: Service) -> list[Any]:
        drawn = answers.draw(service, ["a red circle"], count=2, seed=5, guidance=3.0, size=service.sizes[0])
        return [one async for one in drawn]

    *steps, images = with_service(model, use)
    assert {step.partition(":")[0] for step in steps} == {"codes", "denoising steps"}
    expected = model.generate(
        ["a red circle"] * 2, seeds=5, guidance_scale=3.0, drawing=model.draw_settings(batch_size=1), batch_size=1
    )
    assert [image.tolist() for image in images] == [enlarge(np.asarray(image)).tolist() for image in expected]


def test_a_size_is_one_that_the_model_draws(sized_model: LaVIT) -> None:
    async def use(service: Service, size: str) -> list[Any]:
        drawn = answers.draw(service, ["a red circle"], count=1, seed=5, guidance=3.0, size=size)
        return [one async for one in drawn]

    *_, [image] = with_service(sized_model, lambda service: use(service, "24x16"))
    assert image.shape[0] * 24 == image.shape[1] * 16
    tall = np.zeros((60, 40, 3), np.uint8)
    seen = with_service(sized_model, lambda service: answers.look(service, tall, tokens=None))
    assert seen.reconstruction.shape[0] * 16 == seen.reconstruction.shape[1] * 24
    with pytest.raises(ApiError, match=r"size: expected auto or one of 16x16, 24x16, 16x24"):
        with_service(sized_model, lambda service: use(service, "64x64"))


def test_looking_shows_what_is_kept_and_the_reconstruction(model: LaVIT, images: np.ndarray) -> None:
    expected = model.encode(images[0], selection="topk", tokens=3)
    seen = with_service(model, lambda service: answers.look(service, images[0], tokens=3))
    patches = model.grid[0] * model.grid[1]
    codes = " ".join(map(str, expected.codes[0]))
    assert seen.facts == f"3 of {patches} patches became codes: {codes}"
    assert seen.kept.shape == (256, 256, 3)
    assert (seen.kept != enlarge(images[0])).any(axis=-1).mean() == pytest.approx(1 - 3 / patches, abs=0.02)
    drawn = model.decode(expected, 0, model.draw_settings(batch_size=1))
    assert np.array_equal(seen.reconstruction, enlarge(np.asarray(drawn[0])))


def test_talking_describes_and_answers_as_the_model_does(model: LaVIT, images: np.ndarray) -> None:
    earlier = [("What is it?", "a circle")]

    async def use(service: Service) -> tuple[str, str]:
        return await answers.describe(service, images[0]), await answers.ask(service, images[:1], "Where?", earlier)

    assert with_service(model, use) == (
        model.caption(images[0])[0],
        model.answer(images[0], "Where?", earlier=[earlier])[0],
    )
    marked = [("<image> What is it?", "a circle")]
    assert (
        with_service(model, lambda service: answers.ask(service, images[:1], "<image>Where?", marked))
        == (model.answer(images[0], "Where?", earlier=[earlier])[0])
    )
    for empty in ("  ", "<image>"):
        with pytest.raises(UsageError, match="question: empty, expected a text"):
            with_service(model, lambda service, text=empty: answers.ask(service, (), text, ()))

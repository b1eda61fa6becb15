"""The page of `lavit ui`: what it is made of, and in a real browser what it shows and which hosts it asks."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from lavit import LaVIT
from lavit_core.images import png_bytes
from lavit_serve.config import ServeSettings
from lavit_serve.service import Service, new_service

pytest.importorskip("gradio")

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_conversation_is_its_questions_and_answers_without_captions() -> None:
    from lavit_serve.page import turns_of

    said = [
        {"role": "assistant", "content": "Caption: a circle"},
        {"role": "user", "content": "What colour?"},
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
        {"role": "assistant", "content": "Caption: a circle"},
        {"role": "user", "content": "Where is &lt;image&gt; &amp; co?"},
        {"role": "assistant", "content": "left"},
    ]
    assert turns_of(said) == [("What colour?", "red"), ("Where is <image> & co?", "left")]


def test_the_page_and_the_api_are_one_app_that_names_no_other_host(model: LaVIT) -> None:
    from lavit_serve.page import new_page

    app = new_page(new_service(model, Path("no folder"), ServeSettings()), quiet=True)

    async def get(path: str, host: str = "127.0.0.1") -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=f"http://{host}") as client:
            return await client.get(path)

    async def ask() -> None:
        page, models = await get("/"), await get("/v1/models")
        assert models.json()["data"][0]["id"] == "lavit"
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'self' ")
        assert not re.search(r"https?:", policy)
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(https?://[^\"]+)", page.text)
        assert loaded == []
        assert (await get("/", "example.org")).status_code == 403

    asyncio.run(ask())


def test_no_tab_takes_more_images_than_a_request_may_have(model: LaVIT) -> None:
    import gradio as gr
    from lavit_serve.page import new_blocks

    blocks = new_blocks(new_service(model, Path("no folder"), ServeSettings(max_images=2)), None)
    handlers = {handler.fn.__qualname__.split(".<locals>.")[0] + "." + handler.fn.__name__: handler.fn
                for handler in blocks.fns.values()}  # fmt: skip
    shown = [(np.zeros((4, 4, 3), np.uint8), None)] * 3

    async def edit() -> None:
        async for _ in handlers["_edit_tab.run"](shown, "make it blue", 1, 0, 1.0):
            pass

    for answer in (handlers["_talk_tab.describe"](shown, []), handlers["_talk_tab.ask"](shown, "What?", []), edit()):
        with pytest.raises(gr.Error, match="images: found 3, expected at most 2 images a request"):
            asyncio.run(answer)


@pytest.mark.parametrize(("name", "shown"), [("model", False), ("sized_model", True)])
def test_a_size_can_be_chosen_where_the_model_draws_several(
    request: pytest.FixtureRequest, name: str, shown: bool
) -> None:
    import gradio as gr
    from lavit_serve.page import new_blocks

    service = new_service(request.getfixturevalue(name), Path("no folder"), ServeSettings())
    [first, *others] = [block for block in new_blocks(service, None).blocks.values() if isinstance(block, gr.Dropdown)]
    assert {block.visible for block in (first, *others)} == {shown}
    assert [value for _, value in first.choices] == ["auto", *service.sizes]


def test_models_that_draw_other_sizes_are_compared_each_at_its_own(model: LaVIT, sized_model: LaVIT) -> None:
    from lavit_serve.page import new_blocks

    async def drawn(services: list[Service]) -> list[Any]:
        blocks = new_blocks(services[0], services[1])
        handlers = [handler for handler in blocks.fns.values() if handler.fn.__qualname__.startswith("_draw_with.")]
        assert len(handlers) == 2
        found = []
        for handler in handlers:
            *_, size = handler.inputs
            *_, (images, _) = [shown async for shown in handler.fn("a red circle", 1, 0, 1.0, size.value)]
            found.append(images)
        return found

    services = [new_service(one, Path("no folder"), ServeSettings()) for one in (sized_model, model)]
    for service in services:
        service.batcher.start()
    try:
        assert [len(images) for images in asyncio.run(drawn(services))] == [1, 1]
    finally:
        for service in services:
            service.batcher.stop()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Start `lavit ui` with the model against itself, and give its address."""
    command = [sys.executable, "-m", "lavit_cli", "ui", folder, "--against", folder, "--port", "0", "--device", "cpu"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        assert child.stdout is not None
        yield re.findall(r"http://\S+", child.stdout.readline())[0]
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()
        child.stdout.close()


def open_tab(page: Any, name: str) -> None:
    """Click a tab; on a narrow page the last ones stand in the menu behind "More tabs"."""
    tab = page.get_by_role("tab", name=name)
    if not tab.is_visible():
        page.get_by_role("button", name="More tabs").click()
        tab = page.locator(".overflow-dropdown").get_by_role("button", name=name)
    tab.click()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_people_use_every_tab_in_a_browser_that_asks_no_other_host(
    folder: Path, tmp_path: Path, width: int, scheme: Any
) -> None:
    browsers = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium here")
    images = [tmp_path / "one.png", tmp_path / "other.png"]
    for seed, image in enumerate(images):
        image.write_bytes(png_bytes(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)))
    with running(folder) as url, browsers.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(120_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.get_by_label("Prompt").first.fill("a red circle")
        page.get_by_role("button", name="Draw", exact=True).click()
        page.get_by_text("seed 0 to 3, guidance").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
        grid = page.locator(".grid-wrap").first
        assert grid.evaluate("grid => grid.scrollWidth <= grid.clientWidth"), "no image is cut off"
        open_tab(page, "look")
        page.locator("input[type=file]").first.set_input_files(images[0])
        page.get_by_text("patches became codes").wait_for()
        open_tab(page, "talk")
        talk = page.get_by_role("tabpanel").filter(has=page.get_by_role("button", name="Caption"))
        talk.locator("input[type=file]").first.set_input_files(images)
        thumbnails = talk.locator("button.thumbnail-item")
        thumbnails.nth(1).wait_for()
        page.get_by_role("button", name="Caption").click()
        said = talk.locator("[data-testid=bot]")
        said.nth(1).wait_for()  # a caption of each image
        page.get_by_label("Question").fill("<image> or <image>, which is red?")
        page.get_by_label("Question").press("Enter")
        said.nth(2).wait_for()
        assert "<image> or <image>, which is red?" in talk.locator("[data-testid=user]").inner_text()
        thumbnails.nth(1).click()  # the second, large
        talk.locator("[data-testid=detailed-image]").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
        page.get_by_role("button", name="Start again").click()
        said.first.wait_for(state="hidden")
        assert talk.locator("img").count() == 0
        open_tab(page, "edit")
        edit = page.get_by_role("tabpanel").filter(has=page.get_by_role("button", name="Edit", exact=True))
        edit.locator("input[type=file]").first.set_input_files(images)
        edit.locator("button.thumbnail-item").nth(1).wait_for()
        page.get_by_label("Instruction").fill("<image> <image> a green star")
        page.get_by_role("button", name="Edit", exact=True).click()
        edit.get_by_text("seed 0 to 3, guidance").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
        open_tab(page, "compare")
        compare = page.get_by_role("tabpanel").filter(has=page.get_by_role("button", name="Draw with both"))
        compare.get_by_label("Prompt").fill("a red circle")
        page.get_by_role("button", name="Draw with both").click()
        compare.get_by_text("seed 0 to 3, guidance").nth(1).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
        browser.close()
    assert {address.split("/")[2] for address in asked if address.startswith("http")} == {url.split("/")[2]}
    assert len(asked) > 20

"""The page of `lavit ui`: Gradio on the server's own app. All it loads is local; its browser reaches no other host."""

import html
import itertools
import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import gradio as gr
import numpy as np
from fastapi import FastAPI
from lavit.prompts import PLACEHOLDER
from lavit_core.errors import LavitError

from lavit_serve import page_answers as answers
from lavit_serve.app import new_api
from lavit_serve.errors import ApiError
from lavit_serve.gate import App, add_gate
from lavit_serve.service import Service

POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; frame-ancestors 'none'"
"""Content-Security-Policy of every answer: what the page loads or sends stays with this server."""

FONT = ("ui-sans-serif", "system-ui", "sans-serif")
MONO = ("ui-monospace", "Consolas", "monospace")

CSS = """
.gradio-container { width: 100% !important; max-width: 1080px !important; }
.gradio-container { margin: 0 auto !important; padding: 12px !important; }
.given .thumbnail-item { height: 180px !important; }
.status { min-height: 1.5em; font-variant-numeric: tabular-nums; }
.grid-wrap { min-height: 0 !important; max-height: none !important; }
.given img { width: 100% !important; height: 100% !important; object-fit: contain; }
.facts { overflow-wrap: anywhere; }
@media (max-width: 640px) { .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; } }
"""
CHAT_PX = 320


def new_page(service: Service, other: Service | None = None, *, quiet: bool = False) -> App:
    """Return the application: the API, and the page at /. `other` is the second model of the tab `compare`."""
    api = new_api(service, *([other] if other else []))
    blocks = new_blocks(service, other)
    blocks.queue(default_concurrency_limit=service.settings.max_batch, max_size=service.settings.max_requests)
    theme = gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO)
    app: FastAPI = gr.mount_gradio_app(
        api, blocks, path="/", ssr_mode=False, footer_links=[], run_history=False, theme=theme, css=CSS,
        max_file_size=service.settings.max_body_bytes, enable_monitoring=False,
    )  # fmt: skip
    return add_gate(_kept_here(app), service.settings, None, service.metrics, quiet=quiet)


def _kept_here(app: Any) -> App:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"content-security-policy", POLICY.encode())]
                message = {**message, "headers": [*headers, (b"referrer-policy", b"no-referrer")]}
            await send(message)

        await app(scope, receive, with_policy)

    return answer


def new_blocks(service: Service, other: Service | None) -> gr.Blocks:
    with gr.Blocks(title=f"{service.settings.name}: images as words", analytics_enabled=False,
                   delete_cache=(600, 600)) as blocks:  # fmt: skip
        gr.Markdown(f"# {service.settings.name}\nEverything runs on this machine: {_about(service)}.")
        with gr.Tab("draw"):
            _draw_tab(service)
        with gr.Tab("look"):
            _look_tab(service)
        with gr.Tab("talk"):
            _talk_tab(service)
        if service.model.image_input != "none":
            with gr.Tab("edit"):
                _edit_tab(service)
        with gr.Tab("compare"):
            _compare_tab(service, other)
    return blocks


def _about(service: Service) -> str:
    rows, columns = service.model.grid
    size = service.sizes[0].replace("x", " x ")
    return f"{service.model.codebook_size} codes, {rows} x {columns} patches, images of {size} px"


def _draw_tab(service: Service) -> None:
    with gr.Row():
        prompt = gr.Textbox(label="Prompt", placeholder="a red circle", lines=2, scale=3, min_width=260)
        button = gr.Button("Draw", variant="primary", scale=1, min_width=120)
    choices = _choices(service)
    status = gr.Markdown(elem_classes="status")
    images = _gallery("Images", columns=4)

    async def run(prompt: str, *chosen: Any) -> AsyncIterator[Any]:
        async for shown in _drawn(service, [prompt], *chosen):
            yield shown

    inputs, outputs = [prompt, *choices], [images, status]
    gr.on([button.click, prompt.submit], run, inputs, outputs, api_visibility="private", show_progress="hidden")


def _gallery(label: str, *, columns: int) -> gr.Gallery:
    return gr.Gallery(
        label=label, columns=columns, height="auto", object_fit="contain", format="png", buttons=["download"]
    )


def _choices(service: Service, sizes: Sequence[str] | None = None) -> list[gr.components.Component]:
    """Return what `_drawn` takes after the prompt.

    With fewer than two `sizes` (None: the model's) there is no choice of one, and each model draws its first.
    """
    usual = service.model.sample_settings().guidance_scale
    with gr.Row():
        count = gr.Slider(1, min(8, service.settings.max_images), 4, step=1, label="Images", min_width=160)
        seed = gr.Number(service.seed, precision=0, label="Seed of the first", min_width=120)
        guidance = gr.Slider(1, max(10.0, usual), usual, step=0.5, label="Guidance", min_width=160)
        sizes = service.sizes if sizes is None else sizes
        several = len(sizes) > 1
        size = gr.Dropdown(["auto", *sizes], value="auto", label="Size in px", min_width=120, visible=several)
    return [count, seed, guidance, size]


async def _drawn(
    service: Service, prompt: Sequence[str | np.ndarray], count: int, seed: float, guidance: float, size: str
) -> AsyncIterator[tuple[Any, str]]:
    """Yield what gallery and status line show: the images of before stay until the new ones are there."""
    first = int(seed or 0)
    steps = answers.draw(service, prompt, count=int(count), seed=first, guidance=float(guidance), size=size)
    try:
        async for step in steps:
            if isinstance(step, str):
                yield gr.skip(), step
            else:
                last = f" to {first + len(step) - 1}" if len(step) > 1 else ""
                seeded = [(image, f"seed {first + place}") for place, image in enumerate(step)]
                yield seeded, f"seed {first}{last}, guidance {float(guidance):g}"
    except (LavitError, ApiError) as error:
        raise gr.Error(str(error), print_exception=False) from None


def _look_tab(service: Service) -> None:
    patches = service.model.grid[0] * service.model.grid[1]
    with gr.Row():
        image = gr.Image(
            label="Image", sources=["upload", "clipboard"], height=280, min_width=220, buttons=[], elem_classes="given"
        )
        kept = gr.Image(label="Kept patches", interactive=False, height=280, min_width=220, format="png", buttons=[])
        drawn = gr.Image(label="Reconstruction", interactive=False, height=280, min_width=220, format="png", buttons=[])
    tokens = gr.Slider(0, patches, 0, step=1, label="Codes", info="0: as many as the model chooses for this image")
    facts = gr.Markdown(elem_classes="facts")

    async def run(image: np.ndarray | None, tokens: int) -> tuple[Any, Any, str]:
        if image is None:
            return None, None, ""
        seen = await _answered(answers.look(service, image, tokens=int(tokens) or None))
        return seen.kept, seen.reconstruction, seen.facts

    gr.on([image.change, tokens.release], run, [image, tokens], [kept, drawn, facts], api_visibility="private")


def _talk_tab(service: Service) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=220):
            shown = gr.Gallery(
                label="Images", type="numpy", columns=2, height=280, sources=["upload", "clipboard"],
                object_fit="contain", interactive=True, buttons=[], elem_classes="given",
            )  # fmt: skip
            caption = gr.Button("Caption", min_width=100)
            clear = gr.Button("Start again", min_width=100)
        with gr.Column(scale=2, min_width=280):
            chat = gr.Chatbot(
                label="Conversation", height=CHAT_PX, buttons=[], feedback_options=None, render_markdown=False
            )
            question = gr.Textbox(label="Question", placeholder="What colour is the circle?", submit_btn=True)

    async def describe(shown: list[Any] | None, turns: list[Any]) -> list[Any]:
        if not shown:
            raise gr.Error("give an image first", print_exception=False)
        texts = [await _answered(answers.describe(service, image)) for image in _pixels(service, shown)]
        return [*turns, *(_said("assistant", f"Caption: {text}") for text in texts)]

    async def ask(shown: list[Any] | None, text: str, turns: list[Any]) -> tuple[list[Any], str]:
        reply = await _answered(answers.ask(service, _pixels(service, shown), text, turns_of(turns)))
        return [*turns, _said("user", text), _said("assistant", reply or "(nothing)")], ""

    caption.click(describe, [shown, chat], [chat], api_visibility="private")
    question.submit(ask, [shown, question, chat], [chat, question], api_visibility="private")
    clear.click(lambda: ([], None), None, [chat, shown], api_visibility="private")


def _pixels(service: Service, shown: list[Any] | None) -> list[np.ndarray]:
    """Return the images of a gallery, uint8 [h, w, 3]; more than a request may have become a notice on the page."""
    try:
        service.check_count(len(shown or ()), "images")
    except ApiError as error:
        raise gr.Error(error.message, print_exception=False) from None
    return [np.asarray(image)[..., :3] for image, _ in shown or ()]


def turns_of(messages: Sequence[Any]) -> list[answers.Turn]:
    """Return the questions and answers of a conversation as the page keeps it; captions are none."""
    texts = [(message["role"], _text(message["content"])) for message in messages]
    return [
        (asked, said)
        for (role, asked), (next_role, said) in itertools.pairwise(texts)
        if (role, next_role) == ("user", "assistant")
    ]


def _said(role: str, text: str) -> dict[str, str]:
    """Return a message of the conversation; the page takes texts for HTML, in which `<image>` is a tag."""
    return {"role": role, "content": html.escape(text, quote=False)}


def _text(content: Any) -> str:
    return html.unescape(content if isinstance(content, str) else "".join(part.get("text", "") for part in content))


def _edit_tab(service: Service) -> None:
    gr.Markdown(f"Images and an instruction. Several images: write `{PLACEHOLDER}` where each is read, in their order.")
    given = gr.Gallery(label="Images to edit", type="numpy", columns=4, height=200, sources=["upload", "clipboard"],
                       object_fit="contain", interactive=True, buttons=[], elem_classes="given")  # fmt: skip
    with gr.Row():
        prompt = gr.Textbox(label="Instruction", placeholder="make it blue", scale=3, min_width=260)
        button = gr.Button("Edit", variant="primary", scale=1, min_width=120)
    choices = _choices(service)
    status = gr.Markdown(elem_classes="status")
    images = _gallery("Edited", columns=4)

    async def run(given: list[Any] | None, prompt: str, *chosen: Any) -> AsyncIterator[Any]:
        if not given:
            raise gr.Error("give at least one image", print_exception=False)
        pieces = _pixels(service, given)
        whole: list[str | np.ndarray] = [prompt, *pieces] if PLACEHOLDER in prompt else [*pieces, prompt]
        async for shown in _drawn(service, whole, *chosen):
            yield shown

    inputs = [given, prompt, *choices]
    gr.on(
        [button.click, prompt.submit], run, inputs, [images, status], api_visibility="private", show_progress="hidden"
    )


def _compare_tab(service: Service, other: Service | None) -> None:
    if other is None:
        gr.Markdown("Start with a second model to compare them here: `lavit ui MODEL --against OTHER`.")
        return
    with gr.Row():
        prompt = gr.Textbox(label="Prompt", placeholder="a red circle", lines=2, scale=3, min_width=260)
        button = gr.Button("Draw with both", variant="primary", scale=1, min_width=120)
    choices = _choices(service, sizes=[size for size in service.sizes if size in other.sizes])
    with gr.Row():
        for one in (service, other):
            with gr.Column(min_width=260):
                status = gr.Markdown(elem_classes="status")
                images = _gallery(str(one.folder), columns=2)
            gr.on([button.click, prompt.submit], _draw_with(one), [prompt, *choices], [images, status],
                  api_visibility="private", show_progress="hidden")  # fmt: skip


def _draw_with(service: Service) -> Callable[..., AsyncIterator[Any]]:
    async def run(prompt: str, *chosen: Any) -> AsyncIterator[Any]:
        async for shown in _drawn(service, [prompt], *chosen):
            yield shown

    return run


async def _answered(answer: Awaitable[Any]) -> Any:
    """Return an answer; what the model refuses becomes a notice on the page."""
    try:
        return await answer
    except LavitError as error:
        raise gr.Error(str(error), print_exception=False) from None

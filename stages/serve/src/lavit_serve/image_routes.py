"""/v1/images: images of prompts, and of images with an instruction."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from lavit.prompts import PLACEHOLDER
from pydantic import Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from lavit_serve.errors import ApiError, error_body, invalid, server_failed
from lavit_serve.images import as_base64
from lavit_serve.service import DrawRequest, Prompt, Scale, Service
from lavit_serve.sse import event, streamed
from lavit_serve.work import Draw, Step


class GenerationRequest(DrawRequest):
    """Images of a prompt, as in OpenAI's API."""

    prompt: Prompt
    """What to draw; an empty one draws anything."""
    guidance_scale: Scale | None = None
    """Pull of the prompt on the codes."""
    temperature: Scale | None = None
    """Below 1: codes closer to the most likely."""
    top_k: int | None = Field(default=None, ge=0, le=1 << 31)
    """Draw each code from the k most likely; 0 means all."""
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """Draw each code from the smallest set with this probability."""
    stream: bool = False
    """Send progress as server-sent events, then each image."""


class _InMemory(MultiPartParser):
    """Keeps uploads in memory, where the body already is, and never on a disk."""

    spool_max_size = 0  # as of Python's SpooledTemporaryFile: no limit


EDIT_SCHEMA = GenerationRequest.model_json_schema()
EDIT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    **EDIT_SCHEMA,
                    "properties": {
                        **EDIT_SCHEMA["properties"],
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                    "required": ["image", "prompt"],
                }
            }
        },
    }
}
"""OpenAPI of the form that `edits` reads itself: files in memory, `image` and `image[]` alike."""


def image_routes(service: Service) -> APIRouter:
    """Return the routes below /v1/images."""
    router = APIRouter(prefix="/v1/images")

    @router.post("/generations")
    async def generations(request: GenerationRequest) -> Any:
        """Draw images of a prompt."""
        return await _respond(service, request, [request.prompt], "image_generation")

    @router.post("/edits", openapi_extra=EDIT_BODY)
    async def edits(http: Request) -> Any:
        """Draw what a prompt of images and text asks for; `<image>` in the text stands for an image."""
        request, files = await _read_form(http)
        service.check_count(len(files), "image")
        if service.model.image_input == "none":
            raise ApiError(400, "this model was trained without images; it edits none", param="image")
        images = [await service.reader.read_bytes(content) for content in files]
        return await _respond(service, request, _edit_prompt(request.prompt, images), "image_edit")

    return router


def _edit_prompt(text: str, images: Sequence[np.ndarray]) -> list[str | np.ndarray]:
    """Return the prompt's pieces: images where the text has placeholders, else all of them before it."""
    if PLACEHOLDER not in text:
        return [*images, text]
    if (wanted := text.count(PLACEHOLDER)) != len(images):
        message = f"prompt: {wanted} {PLACEHOLDER} but {len(images)} images, expected as many, or no {PLACEHOLDER}"
        raise ApiError(400, message, param="prompt")
    return [text, *images]


async def _read_form(http: Request) -> tuple[GenerationRequest, list[bytes]]:
    """Return the fields and the files of a form. Raises ApiError."""
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise ApiError(400, "expected multipart/form-data with image and prompt")
    try:
        form = await _InMemory(http.headers, http.stream(), max_part_size=1 << 20).parse()
    except MultiPartException as error:
        raise ApiError(400, f"not a form: {error.message}") from None
    # The library's parser raises many kinds for headers and boundaries that make no sense.
    except (KeyError, ValueError, LookupError, AssertionError):
        raise ApiError(400, "not a form: a part or its boundary makes no sense") from None
    fields: dict[str, Any] = {}
    files: list[bytes] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in ("image", "image[]"):
                raise ApiError(400, f"{name}: no file is read here but image", param=name)
            files.append(await value.read())
        elif name in fields:
            raise ApiError(400, f"{name}: stands twice", param=name)
        else:
            fields[name] = value
    if not files:
        raise ApiError(400, "image: missing; give at least one file", param="image")
    try:
        return GenerationRequest.model_validate(fields), files
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False, include_input=False)) from None


async def _respond(service: Service, request: GenerationRequest, prompt: list[str | np.ndarray], kind: str) -> Any:
    """Draw, and return the images or the response that streams them."""
    service.check_model(request.model)
    service.check_count(request.n, "n")
    sampling = service.model.sample_settings(
        guidance_scale=request.guidance_scale,
        image_guidance_scale=request.guidance_scale,
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
    )
    drawing = service.drawing_of(request)
    work = Draw(prompt=prompt, seeds=service.seeds_of(request), sampling=sampling, drawing=drawing)
    if request.stream:
        return await _stream(service, request, work, kind)
    images = await service.batcher.submit(work)
    return await images_answer(service, request, images)


async def images_answer(service: Service, request: DrawRequest, images: Sequence[Any]) -> dict[str, Any]:
    """Return images in the shape of OpenAI's API, each with its seed."""
    seeds = service.seeds_of(request)
    rows = [{"b64_json": await as_base64(image), "seed": seed} for image, seed in zip(images, seeds, strict=True)]
    return {"created": int(time.time()), "data": rows, "output_format": "png", "size": _size(images[0])}


async def _stream(service: Service, request: DrawRequest, work: Draw, kind: str) -> Response:
    """Return the response that tells of each step, then sends each image.

    It begins with the first step: what the model refuses has its own status by then.
    """
    steps: asyncio.Queue[Step | None] = asyncio.Queue()
    drawn = asyncio.ensure_future(service.batcher.submit(work, steps.put_nowait))
    drawn.add_done_callback(lambda _: steps.put_nowait(None))
    try:
        first = await steps.get()
        if first is None:
            await drawn
    except BaseException:
        drawn.cancel()
        raise

    async def events() -> AsyncIterator[str]:
        step = first
        try:
            while step is not None:
                data = {"type": f"{kind}.progress", "stage": step.stage, "step": step.step, "num_steps": step.num_steps}
                yield event(data, f"{kind}.progress")
                step = await steps.get()
            answer = await images_answer(service, request, await drawn)
            for index, row in enumerate(answer["data"]):
                name = f"{kind}.completed"
                shared = {"created_at": answer["created"], "output_format": "png", "size": answer["size"]}
                yield event({"type": name, "index": index, **row, **shared}, name)
        except Exception:
            yield event(error_body(server_failed()))
            raise
        finally:
            drawn.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await drawn

    return streamed(events())


def _size(image: Any) -> str:
    return f"{image.width}x{image.height}"

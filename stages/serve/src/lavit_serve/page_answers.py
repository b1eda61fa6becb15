"""What the page's tabs ask of the model, through the same batches as the API. Never imports Gradio.

Images go in as uint8 [h, w, 3] and come out enlarged, so that a browser shows small ones sharp.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from lavit.prompts import PromptLike
from lavit_core.data import without_marks
from lavit_core.errors import UsageError
from lavit_core.images import resize_to_square
from lavit_core.shown_images import dim_dropped, enlarge
from PIL import Image

from lavit_serve.chat_routes import ANSWER_TOKENS, CAPTION_TOKENS
from lavit_serve.service import DrawRequest, Service
from lavit_serve.work import Ask, Decode, Describe, Draw, Encode, Step, Text, Work

STAGES = {"codes": "codes", "pixels": "denoising steps"}
SHOWN_CODES = 64
"""Codes of an image that are written out."""

Turn: TypeAlias = tuple[str, str]
"""A question and its answer."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """An image as the model sees it."""

    kept: np.ndarray
    """The encoder's square, dropped patches dimmed."""
    reconstruction: np.ndarray
    facts: str


async def draw(
    service: Service, prompt: Sequence[str | np.ndarray], *, count: int, seed: int, guidance: float, size: str
) -> AsyncIterator[str | list[np.ndarray]]:
    """Yield a line after each step, then the images of `size` (WIDTHxHEIGHT), one each of `count` seeds from `seed`.

    Raises UsageError, InputError as `LaVIT.generate` does, ApiError for a size that the model does not draw.
    """
    work = Draw(
        prompt=[_square(service, piece) if isinstance(piece, np.ndarray) else piece for piece in prompt],
        seeds=range(seed, seed + count),
        sampling=service.model.sample_settings(guidance_scale=guidance, image_guidance_scale=guidance),
        drawing=service.drawing_of(DrawRequest(size=size)),
    )
    async for step in _follow(service, work):
        if isinstance(step, Step):
            yield f"{STAGES[step.stage]}: {step.step} of {step.num_steps}"
        else:
            yield [enlarge(np.asarray(image)) for image in step]


async def look(service: Service, image: np.ndarray, *, tokens: int | None) -> Looked:
    """Return which patches are kept, and the reconstruction from their codes. `tokens` is their number (None: the
    model's own choice)."""
    square = _square(service, image)
    encode = Encode(images=[square], selection="topk" if tokens else None, tokens=tokens, seed=service.seed)
    [seen] = await service.batcher.submit(encode)
    settings = service.model.draw_settings(batch_size=service.settings.max_batch)
    [drawing] = service.model.fitting_settings([image], settings)
    [drawn] = await service.batcher.submit(Decode(codes=[seen.codes], seeds=[service.seed], drawing=drawing))
    grid = service.model.grid
    mask = np.zeros(grid[0] * grid[1], dtype=bool)
    mask[seen.kept] = True
    listed = " ".join(map(str, seen.codes[:SHOWN_CODES]))
    more = f" and {len(seen.codes) - SHOWN_CODES} more" if len(seen.codes) > SHOWN_CODES else ""
    return Looked(
        kept=enlarge(dim_dropped(enlarge(square), mask, grid)),
        reconstruction=enlarge(np.asarray(drawn)),
        facts=f"{len(seen.codes)} of {len(mask)} patches became codes: {listed}{more}",
    )


async def describe(service: Service, image: np.ndarray) -> str:
    """Return a caption."""
    text: Text = await service.batcher.submit(Describe(image=_square(service, image), max_tokens=CAPTION_TOKENS))
    return text.text


async def ask(service: Service, images: Sequence[np.ndarray], question: str, earlier: Sequence[Turn]) -> str:
    """Return the answer to a question after a conversation about images, which are read before it, or about none."""
    if not without_marks(question).strip():
        raise UsageError("question: empty, expected a text")
    shown = [_square(service, image) for image in images]
    # The first question has the images, whatever people call them in it or later.
    first, *rest = map(without_marks, [*(asked for asked, _ in earlier), question])
    said: list[PromptLike] = [[*shown, first] if shown else first, *rest]
    replies = [reply for _, reply in earlier]
    work = Ask(question=said[-1], earlier=list(zip(said[:-1], replies, strict=True)), max_tokens=ANSWER_TOKENS)
    text: Text = await service.batcher.submit(work)
    return text.text


def _square(service: Service, image: np.ndarray) -> np.ndarray:
    return resize_to_square(Image.fromarray(image).convert("RGB"), service.model.image_px)


async def _follow(service: Service, work: Work) -> AsyncIterator[Any]:
    """Yield a work's steps as they are done, and its result; whoever stops listening takes the work back."""
    steps: asyncio.Queue[Step | None] = asyncio.Queue()
    done = asyncio.ensure_future(service.batcher.submit(work, steps.put_nowait))
    done.add_done_callback(lambda _: steps.put_nowait(None))
    try:
        while (step := await steps.get()) is not None:
            yield step
        yield await done
    finally:
        done.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await done

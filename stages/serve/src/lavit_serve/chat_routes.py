"""/v1/chat/completions: captions of an image, questions about it, and their conversation.

One image is read before the conversation, several where they stand in it, as in training. Texts are written greedily; a
request that needs more is refused.
"""

import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from lavit.prompts import PromptLike
from lavit_core.config import Config
from lavit_core.data import without_marks
from pydantic import Field

from lavit_serve.errors import ApiError
from lavit_serve.service import Prompt, Service
from lavit_serve.sse import DONE, event, streamed
from lavit_serve.work import Ask, Describe, Text

CAPTION_TOKENS, ANSWER_TOKENS = 36, 10
"""Longest caption and answer in tokens where a request says nothing: those of `LaVIT.caption` and `LaVIT.answer`."""


class ImageUrl(Config):
    """Where an image is: in the address itself, data:image/...;base64,..."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None
    """Not used: the model has one resolution."""


class TextPart(Config):
    """A text in a message."""

    type: Literal["text"]
    text: Prompt


class ImagePart(Config):
    """An image in a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Config):
    """One turn of a conversation. The fields that must be empty are those of answers that clients send back."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Prompt | Annotated[list[Part], Field(max_length=100)]
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None


class StreamOptions(Config):
    """What a stream has beside the text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(Config):
    """A conversation, as in OpenAI's API."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=200)]
    model: str | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=100_000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    """0: texts are written greedily."""
    top_p: float | None = None
    n: int | None = None
    seed: int | None = None
    """Not used: nothing is drawn by chance."""
    user: str | None = None
    """Not used."""


GREEDY: dict[str, tuple[float, ...]] = {"temperature": (0,), "top_p": (1,), "n": (1,)}
"""Values that fit one text, written greedily."""


def chat_routes(service: Service) -> APIRouter:
    """Return the route of conversations."""
    router = APIRouter(prefix="/v1/chat")

    @router.post("/completions")
    async def completions(request: ChatRequest) -> Any:
        """Describe an image, or answer the last question of a conversation."""
        service.check_model(request.model)
        for name, values in GREEDY.items():
            if getattr(request, name) not in (None, *values):
                message = f"{name}: one text is written greedily, so {values[0]:g} is the only value"
                raise ApiError(400, message, param=name, code="unsupported_value")
        work = await _work_of(service, request)
        text: Text = await service.batcher.submit(work)
        head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": service.settings.name}
        ended = "length" if text.num_tokens >= work.max_tokens else "stop"
        usage = {
            "prompt_tokens": text.num_asked,
            "completion_tokens": text.num_tokens,
            "total_tokens": text.num_asked + text.num_tokens,
        }
        if request.stream:
            with_usage = request.stream_options is not None and request.stream_options.include_usage
            return streamed(_chunks(head, text.text, ended, usage if with_usage else None))
        answer = {"role": "assistant", "content": text.text, "refusal": None}
        choice = {"index": 0, "message": answer, "finish_reason": ended, "logprobs": None}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}

    return router


async def _chunks(head: dict[str, Any], text: str, ended: str, usage: dict[str, int] | None) -> AsyncIterator[str]:
    """Yield the events of a text: the model writes it whole, so it is in one; then how it ended."""
    head = {**head, "object": "chat.completion.chunk"}
    for delta, reason in (({"role": "assistant", "content": text}, None), ({}, ended)):
        yield event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    if usage is not None:
        yield event({**head, "choices": [], "usage": usage})
    yield DONE


async def _work_of(service: Service, request: ChatRequest) -> Ask | Describe:
    """Return what a conversation asks of the model. Raises ApiError."""
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise ApiError(400, "max_tokens is the old name of max_completion_tokens; give one", param="max_tokens")
    most = request.max_completion_tokens or request.max_tokens
    turns = _turns(request.messages)
    uris = [(param, uri) for message, param in turns for uri in _uris(message)]
    service.check_count(len(uris), "messages")
    if uris and service.model.image_input == "none":
        raise ApiError(400, "messages: this model was trained without images", param="messages")
    for place, (message, param) in enumerate(turns):
        # An image alone asks for its caption.
        if not _text(message) and not (place == 0 and len(uris) == 1 and _uris(message)):
            raise ApiError(400, f"{param}: it has no text", param=param)
    images = [await service.reader.read_uri(uri, param) for param, uri in uris]
    if len(images) == 1:
        # One image is read before the conversation, wherever it was shown: models are trained so.
        first, *rest = [_text(message) for message, _ in turns]
        said: list[PromptLike] = [[images[0], first], *rest]
        if not (rest or first):
            return Describe(image=images[0], max_tokens=most or CAPTION_TOKENS)
    else:
        shown = iter(images)
        said = [_pieces(message, shown) for message, _ in turns]
    pairs = list(zip(said[:-1:2], [_text(message) for message, _ in turns[1::2]], strict=True))
    return Ask(question=said[-1], earlier=pairs, max_tokens=most or ANSWER_TOKENS)


def _turns(messages: Sequence[Message]) -> list[tuple[Message, str]]:
    """Return the messages with their names, user and assistant in turn. Raises ApiError for another order."""
    for place, message in enumerate(messages):
        param = f"messages.{place}"
        if message.role in ("system", "developer"):
            found = f"{param}: role {message.role}, but this model knows user and assistant only"
            raise ApiError(400, found, param=param)
        if message.role != ("user", "assistant")[place % 2]:
            raise ApiError(400, f"{param}: expected user and assistant in turn, user first", param=param)
        if message.role == "assistant" and _uris(message):
            raise ApiError(400, f"{param}: an image in an answer", param=param)
    if len(messages) % 2 == 0:
        raise ApiError(400, "messages: expected a user's turn at the end", param="messages")
    return [(message, f"messages.{place}") for place, message in enumerate(messages)]


def _text(message: Message) -> str:
    """Return a message's text. Marks that a user writes stand for no image: a request shows its images in parts."""
    content = [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
    texts = [part.text for part in content if isinstance(part, TextPart)]
    if message.role == "user":
        texts = [without_marks(text) for text in texts]
    return " ".join(text.strip() for text in texts).strip()


def _pieces(message: Message, shown: Iterator[np.ndarray]) -> PromptLike:
    """Return a message's texts and the next of the images `shown`, in order; without images its text."""
    if isinstance(message.content, str) or not _uris(message):
        return _text(message)
    return [without_marks(part.text).strip() if isinstance(part, TextPart) else next(shown) for part in message.content]


def _uris(message: Message) -> list[str]:
    if isinstance(message.content, str):
        return []
    return [part.image_url.url for part in message.content if isinstance(part, ImagePart)]

"""Answers that arrive in pieces, as server-sent events."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi.responses import StreamingResponse


def event(data: Mapping[str, Any], name: str | None = None) -> str:
    """Return one event."""
    head = f"event: {name}\n" if name is not None else ""
    return f"{head}data: {json.dumps(data)}\n\n"


DONE = "data: [DONE]\n\n"
"""Ends a stream of chat completions."""


def streamed(events: AsyncIterator[str]) -> StreamingResponse:
    """Return the response that sends events as they come."""
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})

"""Images of requests, from data URIs and uploads to the encoder's square; images of answers as PNG.

A request's image is decoded and shrunk at once, so that requests that wait hold little; few are decoded at a time. No
address is ever fetched: a server that did would reach, for anybody, what only it can reach.
"""

import base64
import binascii
import re

import anyio
import anyio.to_thread
import numpy as np
from lavit_core.images import png_bytes, square_pixels
from PIL import Image

from lavit_serve.errors import ApiError

DECODED_AT_ONCE = 2
DATA_URI = re.compile(r"data:image/[a-zA-Z0-9.+-]+;base64,")


class ImageReader:
    """Decodes images of requests, a few at a time, off the event loop."""

    def __init__(self, *, image_px: int, max_pixels: int) -> None:
        """`image_px` is the side of the encoder's square; an image of more than `max_pixels` is refused undecoded."""
        self._image_px, self._max_pixels = image_px, max_pixels
        self._limit: anyio.CapacityLimiter | None = None

    async def read_uri(self, uri: str, param: str) -> np.ndarray:
        """Return the image uint8 [h, w, 3] of a data URI. Raises ApiError, InputError."""
        found = DATA_URI.match(uri)
        if found is None:
            message = f"{param}: expected data:image/...;base64,...; this server fetches no address"
            raise ApiError(400, message, param=param, code="invalid_image_url")
        try:
            content = base64.b64decode(uri[found.end() :], validate=True)
        except binascii.Error:
            raise ApiError(400, f"{param}: not base64", param=param, code="invalid_base64_image") from None
        return await self.read_bytes(content)

    async def read_bytes(self, content: bytes) -> np.ndarray:
        """Return an encoded image as uint8 [h, w, 3]. Raises InputError for one that is unreadable or too large."""
        if self._limit is None:  # it belongs to the event loop that runs
            self._limit = anyio.CapacityLimiter(DECODED_AT_ONCE)
        return await anyio.to_thread.run_sync(self._square, content, limiter=self._limit)

    def _square(self, content: bytes) -> np.ndarray:
        return square_pixels(content, self._image_px, max_pixels=self._max_pixels)


async def as_base64(image: Image.Image) -> str:
    """Return an image as base64 of a PNG."""
    return base64.b64encode(await anyio.to_thread.run_sync(png_bytes, np.asarray(image))).decode()

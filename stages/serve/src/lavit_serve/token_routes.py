"""/v1/tokens: images as codes and kept patches, and codes as images. This project's own; OpenAI has none."""

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from lavit_core.config import Config
from pydantic import Field

from lavit_serve.errors import ApiError
from lavit_serve.image_routes import images_answer
from lavit_serve.service import DrawRequest, Seed, Service
from lavit_serve.work import Decode, Encode, Tokens


class TokensRequest(Config):
    """Images to encode."""

    images: Annotated[list[str], Field(min_length=1, max_length=1000)]
    """Data URIs."""
    model: str | None = None
    selection: Literal["threshold", "topk", "sample"] | None = None
    """Which patches are kept; without it, as in the tokens that the model learned from."""
    tokens: Annotated[int, Field(ge=1, le=1 << 31)] | None = None
    """How many patches topk keeps."""
    seed: Seed = 0
    """Seed of `sample`."""


class CodesRequest(DrawRequest):
    """Codes to draw; `n` is not needed."""

    codes: Annotated[list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]], Field(min_length=1)]
    """The codes of each image in raster order of their patches."""


def token_routes(service: Service) -> APIRouter:
    """Return the routes below /v1/tokens."""
    router = APIRouter(prefix="/v1/tokens")
    model = service.model

    @router.post("")
    async def encode(request: TokensRequest) -> dict[str, Any]:
        """Return the codes of images, and which patches they stand for."""
        service.check_model(request.model)
        service.check_count(len(request.images), "images")
        images = [await service.reader.read_uri(uri, f"images.{place}") for place, uri in enumerate(request.images)]
        work = Encode(images=images, selection=request.selection, tokens=request.tokens, seed=request.seed)
        made: list[Tokens] = await service.batcher.submit(work)
        rows = [
            {"index": place, "codes": one.codes.tolist(), "kept": one.kept.tolist()} for place, one in enumerate(made)
        ]
        facts = {"grid": list(model.grid), "codebook_size": model.codebook_size, "model": service.settings.name}
        return {"object": "list", "data": rows, **facts}

    @router.post("/images")
    async def decode(request: CodesRequest) -> dict[str, Any]:
        """Draw the images of codes."""
        service.check_model(request.model)
        service.check_count(len(request.codes), "codes")
        if "n" in request.model_fields_set and request.n != len(request.codes):
            raise ApiError(400, f"n: found {request.n}, but codes of {len(request.codes)} images", param="n")
        request = request.model_copy(update={"n": len(request.codes)})
        most = model.grid[0] * model.grid[1]
        for place, codes in enumerate(request.codes):
            if len(codes) > most or max(codes) >= model.codebook_size:
                message = f"codes.{place}: expected at most {most} codes in [0, {model.codebook_size})"
                raise ApiError(400, message, param=f"codes.{place}")
        arrays = [np.array(codes, dtype=np.int64) for codes in request.codes]
        work = Decode(codes=arrays, seeds=service.seeds_of(request), drawing=service.drawing_of(request))
        return await images_answer(service, request, await service.batcher.submit(work))

    return router

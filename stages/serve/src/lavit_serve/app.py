"""The API of a service, behind its gate."""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from lavit_core.errors import InputError, UsageError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from lavit_serve import __version__
from lavit_serve.chat_routes import chat_routes
from lavit_serve.errors import ApiError, error_response, invalid, server_failed
from lavit_serve.gate import App, add_gate
from lavit_serve.image_routes import image_routes
from lavit_serve.service import Service
from lavit_serve.token_routes import token_routes

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Refused: an error in OpenAI's shape."},
    "5XX": {"description": "Failed, or not in time: an error in OpenAI's shape."},
}


def new_app(service: Service, *, api_key: str | None = None, quiet: bool = False) -> App:
    """Return the ASGI application of a service; its lifespan starts and stops the batches."""
    return add_gate(new_api(service), service.settings, api_key, service.metrics, quiet=quiet)


def new_api(service: Service, *others: Service) -> FastAPI:
    """Return the API without its gate. Its lifespan starts and stops the batches of `others` too."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batchers = [one.batcher for one in (service, *others)]
        for batcher in batchers:
            batcher.start()
        try:
            yield
        finally:
            for batcher in batchers:
                batcher.stop()

    # The pages of documentation would load scripts from elsewhere; /openapi.json stays.
    api = FastAPI(
        title="lavit", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan, responses=ERRORS
    )
    _add_error_handlers(api, service.folder)
    for router in (image_routes(service), chat_routes(service), token_routes(service)):
        api.include_router(router)

    @api.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the one model."""
        return {"object": "list", "data": [_model(service)]}

    @api.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        """Return the model, if it has this name."""
        service.check_model(name)
        return _model(service)

    @api.get("/health")
    async def health() -> dict[str, str]:
        """Return that the process answers."""
        return {"status": "ok"}

    @api.get("/ready")
    async def ready() -> JSONResponse:
        """Return 200 if requests are computed, 503 if not."""
        alive = service.batcher.alive
        return JSONResponse({"status": "ready" if alive else "not ready"}, status_code=200 if alive else 503)

    @api.get("/metrics")
    async def metrics() -> Response:
        """Return counts and times in Prometheus' text format."""
        return PlainTextResponse(service.metrics.as_text(), media_type=CONTENT_TYPE_LATEST)

    return api


def _model(service: Service) -> dict[str, Any]:
    made = {
        "sizes": service.sizes,
        "codebook_size": service.model.codebook_size,
        "grid": list(service.model.grid),
        **service.model.metadata,
    }
    return {"id": service.settings.name, "object": "model", "created": 0, "owned_by": "lavit", "lavit": made}


def _add_error_handlers(api: FastAPI, folder: Path) -> None:
    @api.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> JSONResponse:
        return error_response(error)

    @api.exception_handler(UsageError)
    @api.exception_handler(InputError)
    async def refused_by_model(_: Request, error: UsageError | InputError) -> JSONResponse:
        # The model directory was changed or removed: no request is to blame, and no client should read of it.
        if str(folder) in str(error):
            sys.stderr.write(f"error: {error}\n")
            return error_response(server_failed())
        return error_response(ApiError(400, str(error)))

    @api.exception_handler(RequestValidationError)
    async def not_valid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(invalid(error.errors()))

    @api.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        response = error_response(ApiError(error.status_code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    @api.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> JSONResponse:
        return error_response(server_failed())

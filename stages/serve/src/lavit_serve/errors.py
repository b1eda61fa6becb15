"""Failures in the shape of OpenAI's API, from which its clients make their own exceptions."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse


class ApiError(Exception):
    """A request that is refused: its status, one line, and the parameter that is wrong."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


KINDS = {401: "authentication_error", 429: "rate_limit_error"}
"""Types of errors beside `invalid_request_error` (the other 4xx) and `server_error` (5xx)."""

NOT_AGAIN = {"x-should-retry": "false"}
"""OpenAI's clients repeat 5xx by themselves; a request that took too long once would take too long again."""


def error_body(error: ApiError) -> dict[str, Any]:
    """Return an error as the API's JSON object."""
    kind = KINDS.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


def error_response(error: ApiError) -> JSONResponse:
    """Return the response of an error."""
    headers: dict[str, str] = {}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    elif error.status == 429:
        headers["retry-after"] = "1"
    elif error.status >= 500:
        headers |= NOT_AGAIN
    return JSONResponse(error_body(error), status_code=error.status, headers=headers)


def invalid(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """Return what is wrong with a request's first wrong parameter. Values are left out: they may be a person's own."""
    first = errors[0]
    # Without the header FastAPI sees text; of broken JSON it gives the place in the text as if it were a parameter.
    no_body = tuple(first["loc"]) == ("body",) and first["type"] in ("missing", "model_attributes_type")
    if no_body or first["type"] == "json_invalid":
        return ApiError(400, "the body is no JSON object; send one, with the header content-type: application/json")
    param = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path")) or None
    message = "not known here" if first["type"] == "extra_forbidden" else first["msg"]
    return ApiError(400, f"{param}: {message}" if param else message, param=param)


def server_failed() -> ApiError:
    """Return the error of a bug: no trace, for it may quote other people's requests."""
    return ApiError(500, "the server failed; its log has this x-request-id")

"""The command `serve`."""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any

from lavit_core.command import NO_PRESET, CommonOptions, command, settings_of, show, show_plan
from lavit_core.default_model import model_or_default
from lavit_core.distributions import require_stages
from lavit_core.modeldir import detokenizer_part
from lavit_core.options import Highres, argument, option
from lavit_core.progress import LOADING, waiting

_limit = functools.partial(option, rich_help_panel="Limits")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listening:
    """Where the server is found, and by whom."""

    host: Annotated[str | None, option("--host", help="Address to listen on (default: 127.0.0.1).")] = None
    port: Annotated[int | None, option("--port", help="TCP port (default: 8000).")] = None
    api_key: Annotated[
        str | None,
        option("--api-key", envvar="LAVIT_API_KEY", help="Key that requests must bring; the variable hides it."),
    ] = None
    name: Annotated[str | None, option("--name", help="The model's name in requests (default: lavit).")] = None
    workers: Annotated[int, option("--workers", min=1, help="Processes, each with the model, on a GPU of its own.")] = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How much the server takes on."""

    max_batch: Annotated[int | None, _limit("--max-batch", min=1, help="Images a batch; 1 is exact (default: 16).")] = (
        None
    )
    max_requests: Annotated[
        int | None, _limit("--max-requests", min=1, help="Requests in hand, more get 429 (default: 64).")
    ] = None
    time_limit: Annotated[float | None, _limit("--time-limit", help="Seconds a request, then 504 (default: 120).")] = (
        None
    )


@command()
def serve(
    model: Annotated[
        Path | None, argument(metavar="[MODEL]", help="Model directory (default: as --model of `generate`).")
    ] = None,
    highres: Highres = False,
    *,
    listening: Listening,
    limits: Limits,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Serve a model to OpenAI's clients over HTTP: images, captions, questions, tokens.

    Only this machine reaches it unless --host and --api-key are given. docs/serving.md shows requests.
    """
    with require_stages("lavit serve"):
        from lavit_serve.config import ServeSettings, check_key

    flags = {
        "host": listening.host,
        "port": listening.port,
        "name": listening.name,
        "max_batch": limits.max_batch,
        "max_requests": limits.max_requests,
        "time_limit_seconds": limits.time_limit,
    }
    settings = settings_of(common, ServeSettings, {}, flags)
    check_key(settings.host, listening.api_key)
    model = model_or_default(model, "tokenizer", "llm", detokenizer_part(highres=highres))
    if common.dry_run:
        return show_plan(settings, common, model=str(model), api_key=listening.api_key is not None)
    from lavit_serve.server import Opened, bind, open_model, run_server

    def announce(url: str) -> None:
        show({"url": url, "model": settings.name}, common, lines=[f"listening on {url} (Ctrl-C or SIGTERM ends it)"])

    opened = Opened(
        folder=model, device=common.device, precision=common.precision, preset=common.preset, highres=highres
    )
    bound = bind(settings.host, settings.port, settings.time_limit_seconds)
    how: dict[str, Any] = {
        "api_key": listening.api_key, "seed": common.seed, "quiet": common.silent, "announce": announce,
    }  # fmt: skip
    if listening.workers > 1:
        from lavit_serve.workers import run_workers

        return run_workers(opened, bound, settings, count=listening.workers, **how)
    with waiting(LOADING, quiet=common.silent):
        from lavit_serve.app import new_app
        from lavit_serve.service import new_service

        loaded = open_model(opened)
    service = new_service(loaded, model, settings, seed=common.seed)
    app = new_app(service, api_key=listening.api_key, quiet=common.silent)
    return run_server(app, bound, settings, announce)

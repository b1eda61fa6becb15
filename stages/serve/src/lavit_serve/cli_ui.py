"""The command `ui`."""

import importlib.util
from pathlib import Path
from typing import Annotated

from lavit_core.command import NO_PRESET, CommonOptions, command, settings_of, show, show_plan
from lavit_core.default_model import model_or_default
from lavit_core.distributions import require_stages
from lavit_core.errors import UsageError
from lavit_core.modeldir import detokenizer_part
from lavit_core.options import Highres, argument, option
from lavit_core.progress import LOADING, waiting


@command()
def ui(
    model: Annotated[
        Path | None, argument(metavar="[MODEL]", help="Model directory (default: as --model of `generate`).")
    ] = None,
    against: Annotated[Path | None, option("--against", help="Second model, for the tab `compare`.")] = None,
    port: Annotated[int | None, option("--port", help="TCP port (default: 8000).")] = None,
    highres: Highres = False,
    *,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Open a page to play with a model: draw, look, talk, edit, compare. Only this machine reaches it.

    The page loads nothing from elsewhere and sends nothing away. The API of `lavit serve` is at the same address.
    """
    with require_stages("lavit ui"):
        from lavit_serve.config import THIS_MACHINE, ServeSettings

    settings = settings_of(common, ServeSettings, {}, {"port": port})
    if settings.host not in THIS_MACHINE:
        raise UsageError(f"setting host: {settings.host}, but the page has no key and stays on 127.0.0.1; `ssh -L` "
                         "brings it to another machine")  # fmt: skip
    needed = ("tokenizer", "llm", detokenizer_part(highres=highres))
    folders = [model_or_default(model, *needed), *([model_or_default(against, *needed)] if against else [])]
    if common.dry_run:
        return show_plan(settings, common, models=[str(folder) for folder in folders])
    if importlib.util.find_spec("gradio") is None:
        raise UsageError("lavit ui needs gradio, which is not installed; run `pip install gradio`")
    from lavit_serve.server import Opened, bind, open_model, run_server

    bound = bind(settings.host, settings.port, settings.time_limit_seconds)
    with waiting(LOADING, quiet=common.silent):
        from lavit_serve.page import new_page
        from lavit_serve.service import new_service

        device, precision, preset = common.device, common.precision, common.preset
        services = []
        for folder in folders:
            opened = Opened(folder=folder, device=device, precision=precision, preset=preset, highres=highres)
            services.append(new_service(open_model(opened), folder, settings, seed=common.seed))

    def announce(url: str) -> None:
        page = url.removesuffix("/v1")
        show({"url": page}, common, lines=[f"open {page} in a browser (Ctrl-C ends it)"])

    return run_server(new_page(*services, quiet=True), bound, settings, announce)

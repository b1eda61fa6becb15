"""The commands `lavit push` and `lavit tokens push`."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from lavit_core.command import OutputOptions, command, show
from lavit_core.errors import InputError
from lavit_core.options import argument

if TYPE_CHECKING:
    from lavit_core.hub import Kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class PushOptions:
    """How a repository is made."""

    allow_network: Annotated[bool, typer.Option("--allow-network", help="Send it; without, say what would be.")] = False
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False
    license_name: Annotated[
        str | None, typer.Option("--license", metavar="NAME", help="Licence the card names, say apache-2.0.")
    ] = None


Name = Annotated[str, argument(metavar="OWNER/NAME", help="Repository on the Hugging Face hub.")]


@command()
def push(
    model: Annotated[Path, argument(metavar="MODEL", help="Model directory.")],
    name: Name,
    run: Annotated[
        Path | None, typer.Option("--run", help="Quickstart run the card reports (default: the one MODEL lies in).")
    ] = None,
    options: PushOptions = PushOptions(),
    *,
    output: OutputOptions,
) -> None:
    """Send a model to the Hugging Face hub, with a card written from its run.

    Every byte is verified first. Without --allow-network nothing connects: the card and the files are printed.
    """
    from lavit_cli.push.cards import model_card, run_of
    from lavit_cli.push.upload import model_files

    if run is not None and not (run / "evaluation" / "score.json").is_file():
        raise InputError(f"--run {run}: no evaluation/score.json, expected the directory of a finished quickstart")
    card = functools.partial(model_card, model, run or run_of(model), name, options.license_name)
    _push(model, name, "model", model_files, card, options, output)


@command()
def push_tokens(
    tokens: Annotated[Path, argument(metavar="TOKENS", help="Token directory.")],
    name: Name,
    options: PushOptions = PushOptions(),
    *,
    output: OutputOptions,
) -> None:
    """Send a token directory to the Hugging Face hub as a data set, with a card.

    File names and captions are part of the tokens. Every byte is verified first. Without --allow-network nothing
    connects: the card and the files are printed.
    """
    from lavit_cli.push.cards import token_card
    from lavit_cli.push.upload import token_files

    card = functools.partial(token_card, tokens, name, options.license_name)
    _push(tokens, name, "dataset", token_files, card, options, output)


def _push(
    folder: Path, name: str, kind: "Kind", files_of: Callable[[Path], dict[str, Path]], card: Callable[[], str],
    options: PushOptions, output: OutputOptions,
) -> None:  # fmt: skip
    from lavit_core.progress import waiting

    from lavit_cli.push.upload import Upload, check_name, check_whole, send

    check_name(name)
    files = files_of(folder)
    check_whole(folder, quiet=output.silent)
    upload = Upload(name=name, kind=kind, files=files, card=card(), private=options.private)
    made = {"name": name, "kind": kind, "files": [*files, "README.md"], "bytes": upload.bytes, "url": None}
    if not options.allow_network:
        size = f"{len(files) + 1} files, {upload.bytes / 1e6:.1f} MB"
        said = f"{name}: {size}, not sent: no command connects unless --allow-network is given"
        return show(made, output, lines=[*upload.card.splitlines(), said])
    with waiting(f"sending {upload.bytes / 1e6:.1f} MB", quiet=output.silent):
        made["url"] = send(upload)
    show(made, output, lines=[f"{name}: {len(files) + 1} files, {made['url']}"])

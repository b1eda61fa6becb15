"""`lavit eval fid-stats` and `clip-score`: pictures in folders; what `coco-fid` shares with them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from lavit_core.options import AsJson, ConfigFile, Device, Out, Quiet, Seed, Sets

from lavit_evaluation.cli_options import BatchSize, Generated

if TYPE_CHECKING:
    from lavit_core.config import Config

F = TypeVar("F", bound="Config")

Inception = Annotated[
    Path, typer.Option("--inception", help="pt_inception-2015-12-05-6726825d.pth.", show_default=False)
]
Size = Annotated[
    int | None, typer.Option("--size", help="Side pictures are brought to first (512).", show_default=False)
]
Crop = Annotated[str | None, typer.Option("--crop", help="squash, center or none (squash).", show_default=False)]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess", help="torch-fidelity, torchmetrics, pytorch-fid or clean-fid (the first).", show_default=False
    ),
]
AnyInception = Annotated[bool, typer.Option("--any-inception", help="Other weights; figures are named fd, kd.")]


def fid_stats(
    pictures: Annotated[Path, typer.Argument(help="Folder of real pictures.", show_default=False)],
    inception: Inception,
    out: Out,
    size: Size = None,
    crop: Crop = None,
    preprocess: Preprocess = None,
    any_inception: AnyInception = False,
    batch_size: BatchSize = 32,
    config: ConfigFile = None,
    sets: Sets = None,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Save the Inception statistics of real pictures, for `lavit eval coco-fid --reference`."""
    from lavit_evaluation.drawn.fid import FidConfig, statistics

    settings = settings_of(FidConfig, config, sets, size, crop, preprocess, any_inception)
    result = statistics(
        pictures, inception, out, settings, batch_size=batch_size, device=device, quiet=quiet or as_json
    )
    typer.echo(json.dumps(result) if as_json else f"{result['statistics']}: {result['pictures']:,} pictures")


def clip_score(
    generated: Generated,
    clip: Annotated[Path, typer.Option("--clip", help="Transformers directory of a CLIP.", show_default=False)],
    out: Out,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="captions.jsonl (in --generated).", show_default=False)
    ] = None,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """CLIPScore of drawn pictures and their prompts, each variant under its own name."""
    from lavit_evaluation.drawn.clip_score import evaluate_clip_score

    result = evaluate_clip_score(
        generated,
        out,
        clip,
        prompts=prompts,
        batch_size=batch_size,
        seed=seed,
        device=device,
        quiet=quiet or as_json,
    )
    show_figures(result, out, as_json)


def settings_of(
    kind: type[F], config: Path | None, sets: list[str] | None, size: int | None, crop: str | None,
    preprocess: str | None, any_inception: bool, **more: Any,
) -> F:  # fmt: skip
    """Return settings of `kind` from file, --set and options. Raises UsageError."""
    from lavit_core.config import resolve

    flags = {"size": size, "crop": crop, "preprocess": preprocess, "any_inception": any_inception or None}
    return resolve(kind, file=config, sets=sets, flags=flags | more)


def show_figures(result: dict[str, Any], out: Path, as_json: bool) -> None:
    """Print every figure with its interval and count, and what was left out."""
    if as_json:
        typer.echo(json.dumps(result))
        return
    from lavit_scoring.show import interval, number

    figures = result["figures"]
    if "partial" in result:
        figures, part = result["partial"]["figures"], result["partial"]
        typer.echo(f"PARTIAL: {part['scored']:,} of {part['expected']:,}. Not a score of {result['benchmark']}.")
    for name, figure in figures.items():
        typer.echo(f"{name}: {number(figure['value'])}  {interval(figure)}  over {figure['count']:,} pictures")
    for name, reason in {**result["skipped"], **result["notes"]}.items():
        typer.echo(f"{name}: {'skipped: ' if name in result['skipped'] else ''}{reason}")
    typer.echo(f"{out / 'score.json'}: the score, with everything that went into it")

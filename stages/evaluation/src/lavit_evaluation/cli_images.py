"""`lavit eval coco-fid`, `fid-stats` and `clip-score`: drawn pictures in folders."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from lavit_core.options import AsJson, ConfigFile, Device, Out, Quiet, Seed, Sets

from lavit_evaluation.cli_options import BatchSize, Generated

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


def coco_fid(
    generated: Generated,
    inception: Inception,
    out: Out,
    real: Annotated[Path | None, typer.Option("--real", help="Folder of real pictures.", show_default=False)] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Statistics of `lavit eval fid-stats`.", show_default=False)
    ] = None,
    size: Size = None,
    crop: Crop = None,
    preprocess: Preprocess = None,
    few: Annotated[bool, typer.Option("--few", help="FID of fewer than 2,048 pictures too; marked.")] = False,
    any_inception: AnyInception = False,
    batch_size: BatchSize = 32,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """FID and KID of a folder of drawn pictures against real ones or their saved statistics."""
    from lavit_evaluation.drawn.fid import evaluate_fid

    settings = _settings(config, sets, size, crop, preprocess, few, any_inception)
    result = evaluate_fid(
        generated,
        out,
        inception,
        settings,
        real=real,
        reference=reference,
        seed=seed,
        batch_size=batch_size,
        device=device,
        quiet=quiet or as_json,
    )
    _show(result, out, as_json)


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
    from lavit_evaluation.drawn.fid import statistics

    settings = _settings(config, sets, size, crop, preprocess, False, any_inception)
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
    _show(result, out, as_json)


def _settings(
    config: Path | None, sets: list[str] | None, size: int | None, crop: str | None, preprocess: str | None,
    few: bool, any_inception: bool,
) -> Any:  # fmt: skip
    from lavit_core.config import resolve

    from lavit_evaluation.drawn.fid import FidConfig

    flags = {"size": size, "crop": crop, "preprocess": preprocess, "few": few or None}
    return resolve(FidConfig, file=config, sets=sets, flags=flags | {"any_inception": any_inception or None})


def _show(result: dict[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    from lavit_evaluation.table import interval, number

    for name, figure in result["figures"].items():
        typer.echo(f"{name}: {number(figure['value'])}  {interval(figure)}  over {figure['count']:,} pictures")
    for name, reason in {**result["skipped"], **result["notes"]}.items():
        typer.echo(f"{name}: {'skipped: ' if name in result['skipped'] else ''}{reason}")
    typer.echo(f"{out / 'score.json'}: the score, with everything that went into it")

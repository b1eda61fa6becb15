"""`lavit eval tokenizer` and `lavit eval rate-distortion`: a tokenizer on any images, without labels."""

from pathlib import Path
from typing import Annotated

import typer
from lavit_core.command import NO_PRESET, CommonOptions, command, settings_of, show
from lavit_core.data_options import DataOptions
from lavit_core.options import Model

from lavit_evaluation.options import compute_of


@command(omit=["preset"])
def tokenizer(
    model: Model,
    data: Annotated[Path, typer.Option("--data", help="A folder of images, say DATA/heldout.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write score.json and samples into this folder; resumes.", show_default=False),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option("--masks", help="Folder of object masks: PNG of each image's stem, 255.", show_default=False),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Images at most (1024).", show_default=False)
    ] = None,
    reconstructions: Annotated[
        int | None,
        typer.Option("--reconstructions", min=0, help="Images drawn again, at most (256).", show_default=False),
    ] = None,
    *,
    layout: DataOptions,
    common: CommonOptions = NO_PRESET,
) -> None:
    """What a tokenizer keeps, loses and draws, on images without labels; warns of what is wrong."""
    from lavit_evaluation.config import EvalTokenizerConfig

    flags = {"images": images, "reconstructions": reconstructions}
    settings = settings_of(common, EvalTokenizerConfig, flags=flags)
    if common.dry_run:
        return show({"config": settings.model_dump(mode="json"), "seed": common.seed}, common)
    from lavit_evaluation.token_warnings import warn_again
    from lavit_evaluation.tokenizing.benchmark import eval_tokenizer

    source, compute = layout.source(data), compute_of(common)
    result = eval_tokenizer(model, source, out, settings, masks=masks, seed=common.seed, compute=compute)
    if not common.silent:
        from rich.console import Console

        from lavit_evaluation.show_score import show_score

        show_score(result, Console())
    warn_again(result)
    last = [] if out is None else [f"{out / 'score.json'}: {len(result['figures'])} metrics; next: lavit report {out}"]
    if common.as_json or last:
        show(result, common, lines=last)


@command(omit=["preset"])
def rate_distortion(
    model: Model,
    data: Annotated[Path, typer.Option("--data", help="A folder of images, say DATA/heldout.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write score.json into this folder; resumes.", show_default=False)
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", metavar="K,K,...", help="Tokens an image (8,12,16,24,32).", show_default=False),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Images at most (256).", show_default=False)
    ] = None,
    reconstructions: Annotated[
        int | None,
        typer.Option("--reconstructions", min=0, help="Images drawn at each K, at most (128).", show_default=False),
    ] = None,
    *,
    layout: DataOptions,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Error, PSNR and SSIM against tokens an image: learned counts, the K best patches of each image, random ones."""
    from lavit_evaluation.config import RateDistortionConfig
    from lavit_evaluation.tokenizing.rates import read_rates

    flags = {"images": images, "reconstructions": reconstructions}
    given = {**flags, "tokens": None if tokens is None else read_rates(tokens)}
    settings = settings_of(common, RateDistortionConfig, flags=given)
    if common.dry_run:
        return show({"config": settings.model_dump(mode="json"), "seed": common.seed}, common)
    from lavit_evaluation.tokenizing.rate_distortion import eval_rate_distortion

    result = eval_rate_distortion(
        model, layout.source(data), out, settings, seed=common.seed, compute=compute_of(common)
    )
    if not common.silent:
        from rich.console import Console

        from lavit_evaluation.tokenizing.show_rates import show_rates

        show_rates(result, Console())
    last = [] if out is None else [f"{out / 'score.json'}: {len(result['figures'])} metrics; next: lavit report {out}"]
    if common.as_json or last:
        show(result, common, lines=last)

"""`lavit eval tokenizer` and `lavit eval rate-distortion`: a tokenizer on any images, without labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.command import NO_PRESET, CommonOptions, command, settings_of, show
from lavit_core.data_options import DataOptions
from lavit_core.options import Model, option

from lavit_evaluation.options import ReconstructionWeights, compute_of


@dataclass(frozen=True, kw_only=True)
class ForeignFiles:
    """Another tokenizer's output, measured instead of a model's."""

    drawn: Annotated[Path | None, option("--drawn", help="Not --model: reconstructions, named as the images.")] = None
    codes: Annotated[Path | None, option("--codes", help="Not --model: codes, .npy or JSON lines.")] = None
    codebook_size: Annotated[int | None, option("--codebook-size", min=2, help="Entries of --codes' codebook.")] = None


@command(omit=["preset"])
def tokenizer(
    data: Annotated[Path, typer.Option("--data", help="A folder of images, say DATA/heldout.", show_default=False)],
    model: Annotated[Path | None, option("--model", help="Model directory.")] = None,
    foreign: ForeignFiles = ForeignFiles(),
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
    weights: ReconstructionWeights = ReconstructionWeights(),
    probe: Annotated[bool, typer.Option("--probe", help="Linear probes too, where the data has labels.")] = False,
    *,
    layout: DataOptions,
    common: CommonOptions = NO_PRESET,
) -> None:
    """What a tokenizer keeps, loses and draws, on images without labels; warns of what is wrong."""
    from lavit_core.errors import UsageError

    from lavit_evaluation.config import EvalTokenizerConfig

    if model is not None and any(value is not None for value in vars(foreign).values()):
        raise UsageError("--drawn, --codes, --codebook-size: another tokenizer's output; --model has its own")
    flags = {"images": images, "reconstructions": reconstructions, "probe": probe or None}
    settings = settings_of(common, EvalTokenizerConfig, flags=flags)
    if common.dry_run:
        return show({"config": settings.model_dump(mode="json"), "seed": common.seed}, common)
    from lavit_evaluation.token_warnings import warn_again

    source, compute = layout.source(data), compute_of(common)
    if model is None:
        from lavit_evaluation.tokenizing.eval_foreign import eval_foreign

        if masks is not None:
            raise UsageError("--masks: which patches are kept is known of a --model alone")
        result = eval_foreign(
            source, out, settings, drawn=foreign.drawn, codes=foreign.codes, codebook_size=foreign.codebook_size,
            weights=weights, seed=common.seed, compute=compute,
        )  # fmt: skip
    else:
        from lavit_evaluation.tokenizing.benchmark import eval_tokenizer

        result = eval_tokenizer(
            model, source, out, settings, masks=masks, weights=weights, seed=common.seed, compute=compute
        )
    if not common.silent:
        from rich.console import Console

        from lavit_evaluation.show_score import show_score

        show_score(result, Console())
    warn_again(result)
    following = f"lavit report {out}" if model is not None else f"lavit eval compare {out} OTHER"
    last = [] if out is None else [f"{out / 'score.json'}: {len(result['figures'])} metrics; next: {following}"]
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

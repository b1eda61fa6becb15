"""`lavit eval coco-fid`, `fid`, `fid-stats` and `clip-score`: drawn images, by a model or in a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from lavit_core.command import (
    NO_PRESET,
    CommonOptions,
    OutputOptions,
    Renamed,
    command,
    print_config,
    required,
    settings_of,
    show,
)
from lavit_core.options import Highres, Model, Out, argument, option

from lavit_evaluation.options import (
    BatchSize,
    ClipDir,
    Files,
    Generated,
    Inception,
    Limit,
    MetricFiles,
    Reference,
    compute_of,
)

RENAMED = [Renamed("--any-inception", "--skip-inception-check")]
RENAMED_FEW = [*RENAMED, Renamed("--few", "--allow-small-sample")]
RENAMED_CLIP = Renamed("--clip", "--clip-model")


@dataclass(frozen=True, kw_only=True)
class InceptionOptions:
    """How images reach Inception; None: as the settings say."""

    size: Annotated[int | None, option("--size", help="Side images are brought to first (512).")] = None
    crop: Annotated[str | None, option("--crop", help="squash, center or none (squash).")] = None
    preprocess: Annotated[
        str | None, option("--preprocess", help="torch-fidelity, torchmetrics, pytorch-fid or clean-fid (the first).")
    ] = None
    any_inception: Annotated[
        bool, typer.Option("--skip-inception-check", help="Other weights; metrics are named fd, kd.")
    ] = False

    def flags(self) -> dict[str, Any]:
        """Return the settings that were given."""
        return {**vars(self), "any_inception": self.any_inception or None}


@dataclass(frozen=True, kw_only=True)
class FidOptions(InceptionOptions):
    """How two sides are compared."""

    few: Annotated[bool, typer.Option("--allow-small-sample", help="FID of fewer than 2,048 images too; marked.")] = (
        False
    )

    def flags(self) -> dict[str, Any]:
        """Return the settings that were given."""
        return {**super().flags(), "few": self.few or None}


@command(omit=["allow_network"], renamed=[*RENAMED_FEW, RENAMED_CLIP, Renamed("--best-of-clip", "--rerank-clip-model")])
def coco_fid(
    model: Model,
    out: Out,
    files: Files,
    metrics: MetricFiles = MetricFiles(),
    options: FidOptions = FidOptions(),
    best_of: Annotated[
        int | None, option("--best-of", min=1, help="Candidates a caption, one is kept (published: 4).")
    ] = None,
    limit: Limit = None,
    highres: Highres = False,
    batch_size: BatchSize = 32,
    *,
    common: CommonOptions = NO_PRESET,
) -> None:
    """FID, KID and CLIPScore of images that a model draws from COCO's captions."""
    from lavit_evaluation.image_metrics.coco_fid import run_coco_fid
    from lavit_evaluation.image_metrics.coco_plan import CocoFidConfig, plan_coco_fid

    flags = {**options.flags(), "best_of": best_of, "limit": limit}
    settings = settings_of(common, CocoFidConfig, ("lavit_evaluation", "coco-fid"), flags)
    plan = plan_coco_fid(model, files, settings, metrics, highres=highres, precision=common.precision, seed=common.seed)
    if common.dry_run:
        planned = {"captions": str(plan.captions), "prompts": len(plan.prompts), "skipped": plan.skipped}
        planned |= {"first": plan.prompts[0].text, "config": settings.model_dump(mode="json"), "seed": common.seed}
        return show(planned, common)
    show_metrics(run_coco_fid(plan, model, out, settings, compute=compute_of(common, batch_size)), out, common)


@command(omit=["precision"], renamed=RENAMED_FEW)
def fid(
    generated: Generated,
    out: Out,
    inception: Inception = None,
    real: Annotated[Path | None, option("--real", help="Folder of real images.")] = None,
    reference: Reference = None,
    options: FidOptions = FidOptions(),
    batch_size: BatchSize = 32,
    *,
    common: CommonOptions = NO_PRESET,
) -> None:
    """FID and KID of a folder of drawn images, against real ones or saved statistics."""
    from lavit_evaluation.image_metrics.fid import FidConfig, evaluate_fid

    settings = settings_of(common, FidConfig, ("lavit_evaluation", "fid"), options.flags())
    if common.dry_run:
        return show({"config": settings.model_dump(mode="json"), "seed": common.seed}, common)
    result = evaluate_fid(
        generated, out, required("--inception", inception), settings, real=real, reference=reference,
        seed=common.seed, compute=compute_of(common, batch_size),
    )  # fmt: skip
    show_metrics(result, out, common)


@command(omit=["precision", "seed"], renamed=RENAMED)
def fid_stats(
    images: Annotated[Path, argument(metavar="IMAGES", help="Folder of real images.")],
    out: Out,
    inception: Inception = None,
    options: InceptionOptions = InceptionOptions(),
    batch_size: BatchSize = 32,
    *,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Save the Inception statistics of real images, for `lavit eval fid --reference`."""
    from lavit_evaluation.image_metrics.fid import FidConfig, statistics

    settings = settings_of(common, FidConfig, ("lavit_evaluation", "fid"), options.flags())
    if common.dry_run:
        return show({"config": settings.model_dump(mode="json")}, common)
    weights, compute = required("--inception", inception), compute_of(common, batch_size)
    result = statistics(images, weights, out, settings, compute=compute)
    show(result, common, lines=[f"{result['statistics']}: {result['pictures']:,} images"])


@command(omit=["preset", "config", "sets", "precision"], renamed=[RENAMED_CLIP])
def clip_score(
    generated: Generated,
    out: Out,
    clip: ClipDir = None,
    prompts: Annotated[Path | None, option("--prompts", help="captions.jsonl (in --generated).")] = None,
    batch_size: BatchSize = 32,
    *,
    common: CommonOptions = NO_PRESET,
) -> None:
    """CLIPScore of drawn images and their prompts, each variant under its own name."""
    from lavit_evaluation.image_metrics.clip_score import evaluate_clip_score

    if common.print_config:
        print_config({}, common)  # the metric has no settings
    if common.dry_run:
        return show({"prompts": str(prompts or generated / "captions.jsonl"), "seed": common.seed}, common)
    result = evaluate_clip_score(
        generated, out, required("--clip-model", clip), prompts=prompts, seed=common.seed,
        compute=compute_of(common, batch_size),
    )  # fmt: skip
    show_metrics(result, out, common)


def show_metrics(result: dict[str, Any], out: Path, options: OutputOptions) -> None:
    """Print every metric with its interval and count, and what was left out."""
    from lavit_scoring.show import interval, number

    metrics, lines = result["figures"], []
    if "partial" in result:
        metrics, part = result["partial"]["figures"], result["partial"]
        lines.append(f"PARTIAL: {part['scored']:,} of {part['expected']:,}. Not a score of {result['benchmark']}.")
    for name, metric in metrics.items():
        lines.append(f"{name}: {number(metric['value'])}  {interval(metric)}  over {metric['count']:,} images")
    for name, reason in {**result["skipped"], **result["notes"]}.items():
        lines.append(f"{name}: {'skipped: ' if name in result['skipped'] else ''}{reason}")
    show(result, options, f"{out / 'score.json'}: the score, with everything that went into it", lines=lines)

"""The command `lavit eval coco-fid`: pictures that a model draws from COCO's captions, or a folder of drawn ones."""

import json
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.options import AsJson, ConfigFile, Device, DryRun, Highres, Out, Precision, Quiet, Seed, Sets

from lavit_evaluation.cli_images import AnyInception, Crop, Preprocess, Size, settings_of, show_figures
from lavit_evaluation.cli_options import Annotations, BatchSize, Images, Limit, Split


def coco_fid(
    out: Out,
    model: Annotated[
        Path | None, typer.Option("--model", help="Model directory that draws the captions.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="With --model: folder of the downloads.", show_default=False)
    ] = None,
    generated: Annotated[
        Path | None, typer.Option("--generated", help="Instead: folder of drawn pictures.", show_default=False)
    ] = None,
    inception: Annotated[
        Path | None, typer.Option("--inception", help="pt_inception-2015-12-05-6726825d.pth.", show_default=False)
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option("--clip", help="With --model: directory of a CLIP, for CLIPScore.", show_default=False),
    ] = None,
    real: Annotated[
        Path | None, typer.Option("--real", help="Real pictures (with --model: the captions' own).", show_default=False)
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Statistics of `lavit eval fid-stats`.", show_default=False)
    ] = None,
    annotations: Annotations = None,
    images: Images = None,
    split: Split = None,
    best_of: Annotated[
        int | None,
        typer.Option("--best-of", min=1, help="Candidates a caption, one is kept (published: 4).", show_default=False),
    ] = None,
    best_of_clip: Annotated[
        Path | None,
        typer.Option("--best-of-clip", help="CLIP that chooses (published: ViT-L/14).", show_default=False),
    ] = None,
    limit: Limit = None,
    size: Size = None,
    crop: Crop = None,
    preprocess: Preprocess = None,
    few: Annotated[bool, typer.Option("--few", help="FID of fewer than 2,048 pictures too; marked.")] = False,
    any_inception: AnyInception = False,
    batch_size: BatchSize = 32,
    highres: Highres = False,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """FID, KID and CLIPScore of pictures that a model draws from COCO's captions, or FID and KID of a folder."""
    from lavit_core.errors import UsageError

    from lavit_evaluation.drawn.coco_fid import run_coco_fid
    from lavit_evaluation.drawn.coco_plan import CocoFidConfig, plan_coco_fid
    from lavit_evaluation.drawn.fid import FidConfig, evaluate_fid

    if (model is None) == (generated is None):
        raise UsageError("give either --model MODEL with --data DOWNLOADS, or --generated FOLDER")
    changes = (config, sets, size, crop, preprocess, any_inception)
    if generated is not None:
        alone = {"--data": data, "--clip": clip, "--limit": limit, "--annotations": annotations, "--images": images,
                 "--best-of": best_of, "--best-of-clip": best_of_clip, "--highres": highres or None,
                 "--precision": None if precision == "auto" else precision}  # fmt: skip
        if wrong := [option for option, value in alone.items() if value is not None]:
            raise UsageError(
                f"{wrong[0]} goes with --model; a folder has `lavit eval clip-score`, --real and --reference"
            )
        if inception is None:
            raise UsageError("--generated needs --inception pt_inception-2015-12-05-6726825d.pth")
        settings = settings_of(FidConfig, *changes, few=few or None)
        if dry_run:
            typer.echo(json.dumps({"config": settings.model_dump(mode="json"), "seed": seed}, indent=2))
            return
        result = evaluate_fid(
            generated, out, inception, settings, real=real, reference=reference, seed=seed, batch_size=batch_size,
            device=device, quiet=quiet or as_json,
        )  # fmt: skip
        show_figures(result, out, as_json)
        return
    assert model is not None
    if data is None:
        raise UsageError("--model needs --data: the folder with captions_val2014.json and val2014/")
    drawing = settings_of(CocoFidConfig, *changes, few=few or None, limit=limit, best_of=best_of)
    plan = plan_coco_fid(
        model, data, drawing, inception=inception, clip=clip, real=real, reference=reference, annotations=annotations,
        images=images, split=split, best_of_clip=best_of_clip, highres=highres, seed=seed,
    )  # fmt: skip
    if dry_run:
        shown = {"captions": str(plan.captions), "prompts": len(plan.prompts), "skipped": plan.skipped}
        shown |= {"first": plan.prompts[0].text, "config": drawing.model_dump(mode="json"), "seed": seed}
        typer.echo(json.dumps(shown, indent=None if as_json else 2, ensure_ascii=False))
        return
    result = run_coco_fid(
        plan, model, out, drawing, inception=inception, clip=clip, reference=reference, split=split,
        best_of_clip=best_of_clip, highres=highres, seed=seed, batch_size=batch_size, device=device,
        precision=precision, quiet=quiet or as_json,
    )  # fmt: skip
    show_figures(result, out, as_json)

"""Commands that draw images with a model: `generate`, `reconstruct`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from lavit_core.command import NO_PRESET, CommonOptions, command, settings_of, show, show_plan
from lavit_core.default_model import model_or_default, with_default_preset
from lavit_core.distributions import require_stages
from lavit_core.errors import UsageError
from lavit_core.modeldir import detokenizer_part
from lavit_core.options import Highres, ModelOrDefault
from lavit_core.progress import LOADING, note, waiting

from lavit_cli import options

if TYPE_CHECKING:
    from lavit_cli.generate_settings import GenerateSettings


@command(renamed=options.OLD_NAMES)
def generate(
    context: typer.Context,
    prompt: options.PromptText = None,
    model: ModelOrDefault = None,
    out: options.ImageOut = None,
    num_images: options.NumImages = 1,
    highres: options.HighresOrNot = None,
    safety_checker: options.SafetyChecker = None,
    *,
    images: options.PromptImages,
    reranking: options.Reranking,
    sampling: options.Sampling,
    drawing: options.Drawing,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Draw what a prompt asks for: language model, then detokenizer, into one image that records how it was made.

    Images take the places of <image>: lavit generate "<image> as an oil painting" --image cat.png

    With `-` as PROMPT, each line of stdin is a prompt with a file of its own in the folder --out (default: here): the
    model is loaded once, and all of it stays in memory.

    The record is in the text chunks of a PNG, and as JSON in EXIF's ImageDescription of JPEG and WEBP.

    Without --preset: `released-v2-readme` for imported weights (`published` if they have no SDXL decoder), else `tiny`.
    """
    with require_stages("lavit generate"):
        from lavit_cli import prompts
        from lavit_cli.generate_settings import check_reranking, generate_settings
    from lavit_core.images import check_image

    from lavit_cli.image_files import check_image_file, drop_repeated, unused_file

    flags: dict[str, Any] = {
        "highres": highres,
        "best_of": reranking.best_of,
        "rerank_by": reranking.rerank_by or ("clip" if reranking.rerank_clip_model else None),
        "sample": {
            "guidance_scale": sampling.guidance_scale,
            "image_guidance_scale": sampling.guidance_scale,
            "top_k": sampling.top_k,
            "temperature": sampling.temperature,
            "prompt_images": images.image_prompt_format,
        },
        "draw": {
            "guidance_scale": drawing.decoder_guidance_scale,
            "num_steps": drawing.num_steps,
            "aspect_ratio": drawing.aspect_ratio,
            "size": drawing.size,
        },
    }
    common = with_default_preset(common, model, "tokenizer", "llm")
    settings = generate_settings(common, flags)
    opening: dict[str, Any] = {
        "clip": reranking.rerank_clip_model,
        "safety_checker": safety_checker,
        "device": common.device,
        "precision": common.precision,
    }
    if list(prompt or ()) == ["-"]:
        if images.image or images.prompt_image:
            raise UsageError("prompts from stdin (-) take no images: draw prompts with images one command each")
        return _generate_lines(model, out or Path(), settings, num_images, common, opening)
    pieces = prompts.typed_prompt(prompt or (), images.image or (), images.prompt_image or (), context.find_root().obj)
    check_reranking(settings, reranking.rerank_clip_model, prompts.prompt_text(pieces), common.preset)
    model = model_or_default(model, "tokenizer", "llm", detokenizer_part(highres=settings.highres))
    stem, is_named = prompts.file_stem(pieces, common.seed, num_images), out is not None
    out = out or unused_file(stem)
    check_image_file(out)
    if common.dry_run:
        if model.is_dir():
            from lavit import LaVIT

            from lavit_cli.generate import check_fits

            check_fits(LaVIT.from_pretrained(model, highres=settings.highres), settings, out, num_images)
        return show_plan(settings, common, prompt=prompts.prompt_record(pieces), model=str(model), out=str(out))
    for piece in pieces:
        if isinstance(piece, Path):
            check_image(piece)
    from lavit_cli.generate import generate, lines, open_painter

    with waiting(LOADING, quiet=common.silent):
        painter = open_painter(model, settings, **opening)
        prompts.warn_about(pieces, model)
        made = generate(painter, pieces, out, num_images=num_images, seed=common.seed)
    if not is_named and (earlier := drop_repeated(out, stem)):
        made |= {"out": str(earlier), "same_as": str(earlier)}
    return show(made, common, lines=lines(made))


def _generate_lines(
    model: Path | None,
    folder: Path,
    settings: "GenerateSettings",
    num_images: int,
    common: CommonOptions,
    opening: dict[str, Any],
) -> None:
    """Draw each prompt of stdin into `folder`."""
    model = model_or_default(model, "tokenizer", "llm", detokenizer_part(highres=settings.highres))
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: a file; with prompts from stdin (-) it names a folder")
    if common.dry_run:
        return show_plan(settings, common, prompt="-", model=str(model), out=str(folder))
    from lavit_cli.generate import lines, open_painter
    from lavit_cli.generate_lines import generate_lines

    folder.mkdir(parents=True, exist_ok=True)
    with waiting(LOADING, quiet=common.silent):
        painter = open_painter(model, settings, **opening, low_memory=False)
    read = iter(sys.stdin.buffer.readline, b"")
    how: dict[str, Any] = {"num_images": num_images, "seed": common.seed, "preset": common.preset}
    drawn = False
    for made in generate_lines(painter, read, folder, model, clip=opening["clip"], **how):
        drawn = True
        show(made, common, lines=lines(made))
        sys.stdout.flush()
    if not drawn:
        note("stdin: no prompt in it (one a line), nothing was drawn")
    return None


@command(omit=["aspect_ratio", "size"])
def reconstruct(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images, a row each.", show_default=False)],
    model: ModelOrDefault = None,
    out: options.ImageOut = None,
    highres: Highres = False,
    *,
    drawing: options.Drawing,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Draw images, the patches the tokenizer kept of them, and the reconstructions from their codes.

    A detokenizer that was trained on several sizes draws each image at the one nearest to its shape.

    Without --preset: `released-v2-readme` for imported weights (`published` if they have no SDXL decoder), else `tiny`.
    """
    with require_stages("lavit reconstruct"):
        from lavit_detokenizer.config import DrawSettings
    from lavit_core.images import check_image

    from lavit_cli.image_files import check_image_file, drop_repeated, unused_file

    flags = {"guidance_scale": drawing.decoder_guidance_scale, "num_steps": drawing.num_steps}
    common = with_default_preset(common, model, "tokenizer", detokenizer_part(highres=highres))
    settings = settings_of(common, DrawSettings, ("lavit_detokenizer", "detokenize"), flags)
    model = model_or_default(model, "tokenizer", detokenizer_part(highres=highres))
    stem, is_named = f"{images[0].stem}-reconstruction-seed{common.seed}", out is not None
    out = out or unused_file(stem)
    check_image_file(out)
    for image in images:
        check_image(image)
    from lavit_cli.reconstruct import reconstruct

    how: dict[str, Any] = {"device": common.device, "precision": common.precision, "highres": highres}
    if common.dry_run:
        reconstruct(images, model, out, settings, dry_run=True, **how)
        return show_plan(settings, common, images=[str(image) for image in images], model=str(model), out=str(out))
    with waiting(LOADING, quiet=common.silent):
        made = reconstruct(images, model, out, settings, seed=common.seed, **how)
    kept = ", ".join(f"{one['kept']} of {one['patches']}" for one in made["images"])
    shown = f"{out}: original | {kept} patches kept | reconstruction"
    if not is_named and (earlier := drop_repeated(out, stem)):
        made |= {"out": str(earlier), "same_as": str(earlier)}
        shown = f"same as {earlier}"
    show(made, common, lines=[shown])

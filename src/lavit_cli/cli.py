"""Commands that compose several stages, and those that look at a machine or a run."""

import json
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.command import NO_PRESET, CommonOptions, command, settings_of, show, show_plan
from lavit_core.default_model import model_or_default
from lavit_core.options import (
    AsJson,
    AspectRatio,
    ConfigFile,
    Device,
    DryRun,
    Highres,
    Model,
    ModelOrDefault,
    Out,
    Precision,
    Preset,
    Quiet,
    Seed,
    Sets,
)

from lavit_cli.options import (
    BestBy,
    BestOf,
    Clip,
    Data,
    DecoderGuidance,
    Guidance,
    HighresOrNot,
    ImageFile,
    ImageFiles,
    MaxTokens,
    NumImages,
    NumSteps,
    Prompt,
    PromptImage,
    PromptImages,
    Question,
    SafetyChecker,
    Temperature,
    TopK,
)


def quickstart(
    out: Out,
    data: Data = None,
    preset: Preset = "tiny",
    images: Annotated[int | None, typer.Option("--images", help="Training pictures to draw (without --data).")] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    stop_after: Annotated[str | None, typer.Option("--stop-after", help="End after this step.")] = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole pipeline and write a model, its figures and a report; the same command resumes."""
    from lavit_core.errors import UsageError

    from lavit_cli.quickstart import as_yaml, plan, quickstart, settled, show_summary

    if data is not None and images is not None:
        raise UsageError(f"--images {images} says how many pictures are drawn, and with --data none is: leave one out")
    settings = plan(preset=preset, config=config, sets=sets, images=images)
    if dry_run:
        print(json.dumps(settled(settings)) if as_json else as_yaml(settings).rstrip())
        return
    summary = quickstart(out, settings, data=data, seed=seed, device=device, stop_after=stop_after, quiet=quiet)
    show_summary(out, summary, as_json=as_json)


def generate(
    context: typer.Context,
    model: Model,
    out: Out,
    prompt: Prompt = None,
    prompt_image: PromptImage = None,
    prompt_images_as: PromptImages = None,
    num_images: NumImages = 1,
    aspect_ratio: AspectRatio = None,
    highres: HighresOrNot = None,
    best_of: BestOf = None,
    best_by: BestBy = None,
    clip: Clip = None,
    safety_checker: SafetyChecker = None,
    preset: Preset = "tiny",
    seed: Seed = 0,
    guidance_scale: Guidance = None,
    decoder_guidance_scale: DecoderGuidance = None,
    top_k: TopK = None,
    temperature: Temperature = None,
    num_steps: NumSteps = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Draw what a prompt asks for: language model, then detokenizer, into one PNG that records how it was made.

    A prompt is texts and pictures in the order they are given, say --prompt-image cat.png "as an oil painting".
    """
    from lavit_core.distributions import require_stages

    from lavit_cli.generate_settings import generate_settings
    from lavit_cli.prompt_order import in_order

    settings = generate_settings(preset, highres=highres, best_of=best_of, best_by=best_by, clip=clip)
    with require_stages("lavit generate"):
        from lavit.settings import draw_settings, sample_settings

        sampling = sample_settings(
            preset, guidance_scale=guidance_scale, prompt_images=prompt_images_as, top_k=top_k, temperature=temperature
        )
        drawing = draw_settings(
            preset, guidance_scale=decoder_guidance_scale, num_steps=num_steps, aspect_ratio=aspect_ratio
        )
        from lavit_cli.generate import generate, lines

    made = generate(
        in_order(context, "--prompt-image"),
        model,
        out,
        settings,
        sampling,
        drawing,
        num_images=num_images,
        clip=clip,
        safety_checker=safety_checker,
        seed=seed,
        device=device,
        precision=precision,
    )
    _say(made, lines(made), as_json)


def reconstruct(
    image: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    model: Model,
    out: Out,
    highres: Highres = False,
    preset: Preset = "tiny",
    seed: Seed = 0,
    decoder_guidance_scale: DecoderGuidance = None,
    num_steps: NumSteps = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Draw a picture, the patches the tokenizer kept of it, and what comes back from their codes."""
    from lavit_core.distributions import require_stages

    with require_stages("lavit reconstruct"):
        from lavit.settings import draw_settings

        drawing = draw_settings(preset, guidance_scale=decoder_guidance_scale, num_steps=num_steps)
        from lavit_cli.reconstruct import reconstruct

    made = reconstruct(image, model, out, drawing, highres=highres, seed=seed, device=device, precision=precision)
    _say(made, f"{out}: original | {made['kept']} of {made['patches']} patches kept | what came back", as_json)


@command()
def caption(
    image: ImageFiles,
    model: ModelOrDefault = None,
    max_tokens: MaxTokens = None,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Describe images."""
    from lavit_core.distributions import require_stages

    with require_stages("lavit caption"):
        from lavit_pretrain.config import CaptionSettings

        from lavit_cli.describe import caption_files

    settings = settings_of(common, CaptionSettings, flags={"max_tokens": max_tokens})
    model = model_or_default(model, "tokenizer", "llm")
    if common.dry_run:
        return show_plan(settings, common, images=[str(file) for file in image], model=str(model))
    rows = caption_files(image, model, max_tokens=settings.max_tokens, device=common.device, precision=common.precision)
    show({"captions": rows}, common, lines=[f"{row['image']}: {row['caption']}" for row in rows])


@command()
def ask(
    image: ImageFile,
    question: Question,
    model: ModelOrDefault = None,
    max_tokens: MaxTokens = None,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Answer questions about an image."""
    from lavit_core.distributions import require_stages

    with require_stages("lavit ask"):
        from lavit_pretrain.config import AskSettings

        from lavit_cli.describe import ask_file

    settings = settings_of(common, AskSettings, flags={"max_tokens": max_tokens})
    model = model_or_default(model, "tokenizer", "llm")
    if common.dry_run:
        return show_plan(settings, common, image=str(image), questions=question, model=str(model))
    how = {"device": common.device, "precision": common.precision}
    rows = ask_file(image, question, model, max_tokens=settings.max_tokens, **how)
    show({"answers": rows}, common, lines=[row["answer"] for row in rows])


def import_checkpoint(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of the released weights.", show_default=False)],
    out: Out,
    encoder_heads: Annotated[
        int | None, typer.Option("--encoder-heads", min=1, help="Attention heads of the encoder (published: 16).")
    ] = None,
    heads: Annotated[
        int | None, typer.Option("--heads", min=1, help="Attention heads of merger and decoders (published: 16).")
    ] = None,
    softmax: Annotated[str, typer.Option("--softmax", help="released (same numbers) or exact (faster).")] = "released",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Turn the released weights (or some of their files) into a model directory; nothing in them is executed."""
    from lavit_cli.import_checkpoint import import_checkpoint
    from lavit_cli.import_summary import lines

    made = import_checkpoint(
        src, out, encoder_heads=encoder_heads, heads=heads, softmax=softmax, dry_run=dry_run, quiet=quiet or as_json
    )
    _say(made, lines(made, out, dry_run=dry_run), as_json)


def export_checkpoint(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model directory.", show_default=False)],
    out: Out,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a model directory in the released layout, for the authors' inference code."""
    from lavit_cli.export_checkpoint import export_checkpoint

    made = export_checkpoint(model, out, quiet=quiet or as_json)
    notes = [f"not in it: {name} of {file}" for file, names in made["missing"].items() for name in names]
    notes += [f"left out: {name} ({why})" for name, why in made["left_out"].items()]
    _say(made, "\n".join([*notes, f"{len(made['files'])} files in {out}"]), as_json)


def report(
    run: Annotated[Path, typer.Argument(help="A run directory.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", help="HTML file (default: RUN/report.html).")] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="reference|RUN", help="Draw the curves over those of the demo, or of a run."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained page about a run: pictures, curves, figures, costs, versions."""
    from lavit_cli.report.page import write_report

    file = write_report(run, out, against=against)
    _say({"report": str(file), "bytes": file.stat().st_size}, f"{file}: open it in a browser", as_json)


def doctor(as_json: AsJson = False) -> None:
    """Say what works here: versions, devices and dtypes, disk, memory, each stage; exit 1 when something is broken."""
    from lavit_cli.doctor import examine, show

    checks = examine()
    show(checks, as_json=as_json)
    raise typer.Exit(1 if any(check.state == "broken" for check in checks) else 0)


def _say(result: dict[str, object], line: str, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(result))
    else:
        print(line)

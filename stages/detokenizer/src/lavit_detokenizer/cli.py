"""Commands of the detokenizer stage: `train-detokenizer`, `detokenize`."""

from pathlib import Path
from typing import Annotated

from lavit_core.command import NO_PRESET, CommonOptions, command, required, settings_of, show, show_plan, word
from lavit_core.data_options import DataOptions
from lavit_core.default_model import model_or_default, with_default_preset
from lavit_core.follow import FollowOptions
from lavit_core.modeldir import detokenizer_part, find_part
from lavit_core.options import (
    AspectRatio,
    Highres,
    ModelOrDefault,
    ModelUnlessDry,
    Out,
    OutUnlessDry,
    Size,
    argument,
    option,
)
from lavit_core.progress import LOADING, waiting

from lavit_detokenizer.start_files import StartFiles

PACKAGE = "lavit_detokenizer"

TokensUnlessDry = Annotated[Path | None, argument(help="Token directory.")]
Tokens = Annotated[Path, argument(help="Token directory.")]
Images = Annotated[Path | None, option("--images", help="The images the tokens were made from.")]
Guidance = Annotated[float | None, option("--guidance-scale", help="1 turns guidance off.")]
NumSteps = Annotated[int | None, option("--num-steps", min=1, help="Denoising steps.")]


@command()
def train_detokenizer(
    tokens: TokensUnlessDry = None,
    images: Images = None,
    model: ModelUnlessDry = None,
    out: OutUnlessDry = None,
    start: StartFiles = StartFiles(),
    *,
    follow: FollowOptions,
    layout: DataOptions,
    common: CommonOptions,
) -> None:
    """Train a diffusion model that draws images from their codes."""
    from lavit_detokenizer.config import TrainDetokenizerConfig

    settings = settings_of(common, TrainDetokenizerConfig, (PACKAGE, "train-detokenizer"))
    if common.dry_run:
        from lavit_trainkit.cost import plan_lines

        from lavit_detokenizer.plan import plan

        planned = plan(settings, tokens, model, start, device=common.device)
        return show(planned, common, lines=plan_lines(planned))
    tokens, source = required("TOKENS", tokens), layout.source(required("--images", images))
    model, out = required("--model", model), required("--out", out)
    from lavit_core.data import check_data
    from lavit_core.token_format import read_manifest

    read_manifest(tokens)
    check_data(source)
    find_part(model, "tokenizer")
    from lavit_detokenizer import train_detokenizer as verb

    summary = verb.train_detokenizer(
        tokens,
        source,
        model,
        out,
        settings,
        start=start,
        seed=common.seed,
        device=common.device,
        follow=follow,
        quiet=common.silent,
    )
    model = out / "model"
    following = f"next: lavit detokenize {word(tokens)} --model {word(model)} --out DIR"
    show(summary, common, f"detokenizer in {model / 'detokenizer'}; {following}")


@command()
def detokenize(
    tokens: Tokens,
    out: Out,
    model: ModelOrDefault = None,
    guidance_scale: Guidance = None,
    num_steps: NumSteps = None,
    highres: Highres = False,
    aspect_ratio: AspectRatio = None,
    size: Size = None,
    *,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Draw the images of a token directory into a folder.

    Without --preset: `released-v2-readme` for imported weights (`published` if they have no SDXL decoder), else `tiny`.
    """
    from lavit_detokenizer.config import DrawSettings

    flags = {
        "guidance_scale": guidance_scale,
        "num_steps": num_steps,
        "aspect_ratio": aspect_ratio,
        "size": size,
    }
    common = with_default_preset(common, model, "tokenizer", detokenizer_part(highres=highres))
    settings = settings_of(common, DrawSettings, (PACKAGE, "detokenize"), flags)
    model = model_or_default(model, "tokenizer", detokenizer_part(highres=highres))
    if common.dry_run:
        return show_plan(settings, common, tokens=str(tokens), model=str(model))
    from lavit_core.token_format import read_manifest

    read_manifest(tokens)
    with waiting(LOADING, quiet=common.silent):
        from lavit_detokenizer import detokenize as verb

    summary = verb.detokenize(
        tokens,
        model,
        out,
        settings,
        highres=highres,
        seed=common.seed,
        device=common.device,
        precision=common.precision,
        quiet=common.silent,
    )
    show(summary, common, f"{summary['images']} images in {out / 'images'}; next: lavit data inspect {word(out)}")

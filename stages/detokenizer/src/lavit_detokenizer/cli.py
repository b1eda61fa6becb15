"""Commands of the detokenizer stage: `train-detokenizer`, `detokenize`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from lavit_core.options import (
    AsJson,
    AspectRatio,
    ConfigFile,
    Device,
    DryRun,
    Highres,
    Model,
    ModelUnlessDry,
    Out,
    OutUnlessDry,
    Precision,
    Preset,
    Quiet,
    Seed,
    Sets,
    needed,
)


def train_detokenizer(
    tokens: Annotated[
        Path | None, typer.Argument(help="Token directory (--dry-run goes without).", show_default=False)
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="The pictures it was made from (--dry-run goes without).", show_default=False),
    ] = None,
    model: ModelUnlessDry = None,
    out: OutUnlessDry = None,
    unet: Annotated[
        Path | None, typer.Option("--unet", help="diffusers UNet folder to start from.", show_default=False)
    ] = None,
    vae: Annotated[
        Path | None, typer.Option("--vae", help="diffusers AutoencoderKL folder (latent space).", show_default=False)
    ] = None,
    null_embedding: Annotated[
        Path | None,
        typer.Option("--null-embedding", help="Null-text embedding (null_condition: stored).", show_default=False),
    ] = None,
    preset: Preset = "tiny",
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Train a diffusion model that draws pictures from their codes."""
    from lavit_core.config import load_preset, resolve

    from lavit_detokenizer.config import TrainDetokenizerConfig

    chosen = load_preset("lavit_detokenizer", "train-detokenizer", preset)
    settings = resolve(TrainDetokenizerConfig, preset=chosen, file=config, sets=sets)
    if dry_run:
        from lavit_detokenizer.plan import plan

        _show_plan(plan(settings, tokens, model, vae, unet, device=device), as_json)
        return
    tokens, out = needed("TOKENS", tokens), needed("--out", out)
    from lavit_detokenizer import train_detokenizer as verb

    summary = verb.train_detokenizer(
        tokens,
        needed("--images", images),
        needed("--model", model),
        out,
        settings,
        unet=unet,
        vae=vae,
        null_embedding=null_embedding,
        seed=seed,
        device=device,
        quiet=quiet or as_json,
    )
    trained = out / "model"
    _show(
        summary,
        as_json,
        f"detokenizer in {trained / 'detokenizer'}; next: lavit detokenize {tokens} --model {trained} --out DIR",
    )


def detokenize(
    tokens: Annotated[Path, typer.Argument(help="Token directory.", show_default=False)],
    model: Model,
    out: Out,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", help="1 turns guidance off.", show_default=False)
    ] = None,
    num_steps: Annotated[
        int | None, typer.Option("--num-steps", min=1, help="Denoising steps.", show_default=False)
    ] = None,
    highres: Highres = False,
    aspect_ratio: AspectRatio = None,
    preset: Preset = "tiny",
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw the pictures of a token directory into a folder."""
    from lavit_core.config import load_preset, resolve

    from lavit_detokenizer.config import DrawSettings

    chosen = load_preset("lavit_detokenizer", "detokenize", preset)
    flags = {"guidance_scale": guidance_scale, "num_steps": num_steps, "aspect_ratio": aspect_ratio}
    settings = resolve(DrawSettings, preset=chosen, file=config, sets=sets, flags=flags)
    from lavit_detokenizer import detokenize as verb

    summary = verb.detokenize(
        tokens,
        model,
        out,
        settings,
        highres=highres,
        seed=seed,
        device=device,
        precision=precision,
        quiet=quiet or as_json,
    )
    _show(summary, as_json, f"{summary['images']} pictures in {out / 'images'}; next: lavit data inspect {out}")


def _show(value: dict[str, Any], as_json: bool, text: str | None = None) -> None:
    print(json.dumps(value) if as_json else text or json.dumps(value, indent=2))


def _show_plan(planned: dict[str, Any], as_json: bool) -> None:
    from lavit_trainkit.cost_report import plan_lines

    print(json.dumps(planned) if as_json else "\n".join(plan_lines(planned)))

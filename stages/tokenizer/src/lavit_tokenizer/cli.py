"""Commands of the tokenizer stage: `train-encoder`, `train-tokenizer`, `tokenize-images`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from lavit_core.options import (
    AsJson,
    ConfigFile,
    Device,
    DryRun,
    Model,
    Out,
    OutUnlessDry,
    Preset,
    Quiet,
    Seed,
    Sets,
    needed,
)

Images = Annotated[Path, typer.Argument(metavar="DATA", help="Pictures: a data folder, or any folder of images.")]
ImagesUnlessDry = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Pictures: a folder of images, or a data folder (--dry-run goes without)."),
]
EncoderModel = Annotated[Path | None, typer.Option("--model", help="Model directory with encoder/.")]
EncoderFolder = Annotated[
    Path | None, typer.Option("--encoder", help="transformers vision folder, instead of --model.")
]
Workers = Annotated[int | None, typer.Option("--workers", min=0, help="Decoding processes.")]
Selection = Annotated[str | None, typer.Option("--selection", help="threshold, topk or sample.")]
Features = Annotated[bool | None, typer.Option("--features/--no-features", help="Store merger features too.")]
TokenizePreset = Annotated[
    str | None,
    typer.Option("--preset", help="Shipped settings to start from (tiny; imported for imported weights)."),
]
MaxErrorRate = Annotated[float | None, typer.Option("--max-error-rate", min=0, max=1, help="Unreadable share allowed.")]


def train_encoder(
    data: Images,
    out: Out,
    preset: Preset = "tiny",
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Train a small image encoder (CLIP) on your captioned pictures."""
    from lavit_core.config import load_preset, resolve

    from lavit_tokenizer.config import TrainEncoderConfig

    chosen = load_preset("lavit_tokenizer", "train-encoder", preset)
    settings = resolve(TrainEncoderConfig, preset=chosen, file=config, sets=sets)
    if dry_run:
        from lavit_tokenizer.plan import plan_encoder

        _show(plan_encoder(settings), as_json)
        return
    from lavit_tokenizer.train_encoder import train_encoder as verb

    summary = verb(data, out, settings, seed=seed, device=device, quiet=quiet or as_json)
    model = out / "model"
    _show(
        summary,
        as_json,
        f"encoder in {model / 'encoder'}; next: lavit train-tokenizer {data} --model {model} --out RUN",
    )


def train_tokenizer(
    data: ImagesUnlessDry = None,
    out: OutUnlessDry = None,
    model: EncoderModel = None,
    encoder: EncoderFolder = None,
    preset: Preset = "tiny",
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Train the visual tokenizer: which patches become tokens, and their codebook."""
    from lavit_core.config import load_preset, resolve

    from lavit_tokenizer.config import TrainTokenizerConfig

    chosen = load_preset("lavit_tokenizer", "train-tokenizer", preset)
    settings = resolve(TrainTokenizerConfig, preset=chosen, file=config, sets=sets)
    if dry_run:
        from lavit_tokenizer.plan import plan_tokenizer

        _show_plan(plan_tokenizer(settings, data=data, model=model, encoder=encoder, device=device), as_json)
        return
    data, out = needed("DATA", data), needed("--out", out)
    from lavit_tokenizer.train_tokenizer import train_tokenizer as verb

    summary = verb(data, out, settings, model=model, encoder=encoder, seed=seed, device=device, quiet=quiet or as_json)
    made = out / "model"
    _show(
        summary,
        as_json,
        f"tokenizer in {made / 'tokenizer'}; next: lavit tokenize-images {data} --model {made} --out TOKENS",
    )


def tokenize_images(
    data: Images,
    model: Model,
    out: Out,
    workers: Workers = None,
    selection: Selection = None,
    features: Features = None,
    max_error_rate: MaxErrorRate = None,
    preset: TokenizePreset = None,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Write pictures as codes to a token directory; resumable."""
    from lavit_core.config import load_preset, resolve
    from lavit_core.modeldir import is_imported

    from lavit_tokenizer.config import TokenizeConfig

    preset = preset or ("imported" if is_imported(model, "tokenizer") else "tiny")
    chosen = load_preset("lavit_tokenizer", "tokenize-images", preset)
    flags = {"workers": workers, "selection": selection, "features": features, "max_error_rate": max_error_rate}
    settings = resolve(TokenizeConfig, preset=chosen, file=config, sets=sets, flags=flags)
    if dry_run:
        from lavit_tokenizer.plan import plan_tokenize

        _show(plan_tokenize(data, model, settings), as_json)
        return
    from lavit_tokenizer.tokenize_images import tokenize_images as verb

    summary = verb(data, model, out, settings, seed=seed, device=device, quiet=quiet or as_json)
    # The language model's presets read stored features; tokens without them have their codes.
    codes = "" if settings.features else " --image-input codes"
    _show(summary, as_json, f"tokens in {out}; next: lavit pretrain {out} --model {model}{codes} --out RUN")


def _show(summary: dict[str, Any], as_json: bool, last_line: str = "") -> None:
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
        return
    for name, value in summary.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    if last_line:
        print(last_line)


def _show_plan(planned: dict[str, Any], as_json: bool) -> None:
    from lavit_trainkit.cost_report import plan_lines

    print(json.dumps(planned) if as_json else "\n".join(plan_lines(planned)))

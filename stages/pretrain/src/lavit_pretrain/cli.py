"""Commands of the pretrain stage: `pretrain`, `sample`, `caption`, `ask`."""

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


def pretrain(
    tokens: Annotated[
        list[Path] | None, typer.Argument(help="Token directories (--dry-run goes without).", show_default=False)
    ] = None,
    model: ModelUnlessDry = None,
    out: OutUnlessDry = None,
    image_input: Annotated[
        str | None, typer.Option("--image-input", help="codes, features, live or none (blind).", show_default=False)
    ] = None,
    llm: Annotated[Path | None, typer.Option("--llm", help="Language model to start from.", show_default=False)] = None,
    questions: Annotated[
        list[Path] | None, typer.Option("--questions", help="Questions and answers; repeatable.", show_default=False)
    ] = None,
    text: Annotated[
        list[Path] | None, typer.Option("--text", help="Text alone; repeatable.", show_default=False)
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Images, for live input.", show_default=False)] = None,
    preset: Preset = "tiny",
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Train a language model on token files: it learns to read and to write images."""
    from lavit_core.config import load_preset, resolve

    from lavit_pretrain.config import PretrainConfig

    chosen = load_preset("lavit_pretrain", "pretrain", preset)
    settings = resolve(PretrainConfig, preset=chosen, file=config, sets=sets, flags={"image_input": image_input})
    if dry_run:
        from lavit_pretrain.plan import plan

        kinds = {"questions": bool(questions or not tokens), "text": bool(text or not tokens)}
        _show_plan(plan(settings, llm, tokens or (), model, **kinds, device=device), as_json)
        return
    tokens, out = needed("TOKENS", tokens), needed("--out", out)
    from lavit_pretrain.train_language_model import train_language_model

    summary = train_language_model(
        tokens,
        needed("--model", model),
        out,
        settings,
        questions=questions or (),
        text=text or (),
        llm=llm,
        data=data,
        seed=seed,
        device=device,
        quiet=quiet or as_json,
    )
    trained = out / "model"
    _show(
        summary,
        as_json,
        f"language model in {trained / 'llm'}; "
        f"next: lavit train-detokenizer {tokens[0]} --images DATA --model {trained} --out RUN",
    )


def sample(
    prompt: Annotated[
        list[str], typer.Argument(help="What to draw; several are drawn side by side.", show_default=False)
    ],
    model: Model,
    out: Out,
    num_images: Annotated[int, typer.Option("--num-images", min=1, help="Images of each prompt.")] = 1,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", help="1 turns guidance off.", show_default=False)
    ] = None,
    preset: Preset = "tiny",
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Draw images of a prompt as codes, into a token directory."""
    from lavit_core.config import load_preset, resolve

    from lavit_pretrain.config import SampleSettings

    chosen = load_preset("lavit_pretrain", "sample", preset)
    settings = resolve(SampleSettings, preset=chosen, file=config, sets=sets, flags={"guidance_scale": guidance_scale})
    from lavit_pretrain import sample as verb

    summary = verb.sample(
        prompt, model, out, settings, num_images=num_images, seed=seed, device=device, precision=precision
    )
    _show(
        summary,
        as_json,
        f"{summary['images']} images as codes in {out}; next: lavit detokenize {out} --model {model} --out DIR",
    )


def caption(
    image: Annotated[list[Path], typer.Argument(help="Picture files.", show_default=False)],
    model: Model,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest caption in tokens.")] = 36,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Describe pictures."""
    from lavit_pretrain.caption import caption_files

    rows = caption_files(image, model, max_tokens=max_tokens, device=device, precision=precision)
    _show({"captions": rows}, as_json, "\n".join(f"{row['image']}: {row['caption']}" for row in rows))


def ask(
    image: Annotated[Path, typer.Argument(help="Picture file.", show_default=False)],
    question: Annotated[list[str], typer.Argument(help="What to ask about it.", show_default=False)],
    model: Model,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest answer in tokens.")] = 10,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Answer questions about a picture."""
    from lavit_pretrain.ask import ask_file

    rows = ask_file(image, question, model, max_tokens=max_tokens, device=device, precision=precision)
    _show({"answers": rows}, as_json, "\n".join(row["answer"] for row in rows))


def _show(value: dict[str, Any], as_json: bool, text: str | None = None) -> None:
    print(json.dumps(value) if as_json else text or json.dumps(value, indent=2))


def _show_plan(planned: dict[str, Any], as_json: bool) -> None:
    from lavit_trainkit.cost_report import plan_lines

    print(json.dumps(planned) if as_json else "\n".join(plan_lines(planned)))

"""`lavit eval shapes` and `lavit eval probe`: what works on any data set in this project's own layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.command import NO_PRESET, CommonOptions, Renamed, command, settings_of, show
from lavit_core.data_options import DataOptions
from lavit_core.options import Model, Out

from lavit_evaluation.options import compute_of


@dataclass(frozen=True, kw_only=True)
class ShapesOptions:
    """Settings of `shapes` that have an option of their own."""

    pictures: Annotated[
        int | None, typer.Option("--images", help="Images captioned and drawn (preset: 256).", show_default=False)
    ] = None
    questions: Annotated[
        int | None, typer.Option("--questions", help="Questions asked (preset: 2000).", show_default=False)
    ] = None
    llm_guidance: Annotated[
        float | None, typer.Option("--guidance-scale", help="Guidance of the codes.", show_default=False)
    ] = None
    decoder_guidance: Annotated[
        float | None, typer.Option("--decoder-guidance-scale", help="Guidance of the pixels.", show_default=False)
    ] = None


@command(renamed=[Renamed("--blind", "--no-images-model"), Renamed("--pictures", "--images")])
def shapes(
    model: Model,
    data: Annotated[Path, typer.Option("--data", help="Held-out data, say DATA/heldout.", show_default=False)],
    out: Out,
    blind: Annotated[
        Path | None,
        typer.Option("--no-images-model", help="Model trained with --image-input none.", show_default=False),
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option("--tokens", help="Token directory whose codes are counted.", show_default=False)
    ] = None,
    train_data: Annotated[
        Path | None, typer.Option("--train-data", help="Training data, for majority answers.", show_default=False)
    ] = None,
    options: ShapesOptions = ShapesOptions(),
    *,
    layout: DataOptions,
    common: CommonOptions,
) -> None:
    """Score a model on drawn shapes: questions, captions, drawings judged from pixels, reconstructions, tokens."""
    from lavit_evaluation.config import ShapesConfig

    settings = settings_of(common, ShapesConfig, ("lavit_evaluation", "shapes"), flags=vars(options))
    if common.dry_run:
        return show({"config": settings.model_dump(mode="json"), "seed": common.seed}, common)
    from lavit_evaluation.shapes.benchmark import eval_shapes

    training = None if train_data is None else layout.source(train_data)
    result = eval_shapes(
        model, layout.source(data), out, settings, blind=blind, tokens=tokens, train_data=training, seed=common.seed,
        compute=compute_of(common),
    )  # fmt: skip
    if not common.silent:
        from rich.console import Console

        from lavit_evaluation.show_score import show_score

        show_score(result, Console())
    last = f"{out / 'score.json'}: {len(result['figures'])} metrics, samples beside it; next: lavit report {out}"
    show(result, common, lines=[last])


@command(omit=["preset", "precision"])
def probe(
    model: Model,
    data: Annotated[Path, typer.Option("--data", help="Images with labels, say DATA/heldout.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write score.json into this folder.", show_default=False)
    ] = None,
    train_data: Annotated[
        Path | None,
        typer.Option(
            "--train-data", help="Fit here and score on all of --data (else it is split).", show_default=False
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="A labels.jsonl in another place.", show_default=False)
    ] = None,
    *,
    layout: DataOptions,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Linear probes through a tokenizer: where colour, shape, place, or your own labels are lost."""
    from lavit_evaluation.config import ProbeConfig

    settings = settings_of(common, ProbeConfig)
    if common.dry_run:
        return show({"config": settings.model_dump(mode="json"), "seed": common.seed}, common)
    from lavit_evaluation.probing.probe import eval_probe
    from lavit_evaluation.token_warnings import warn_again

    source, training = layout.source(data), None if train_data is None else layout.source(train_data)
    compute = compute_of(common)
    result = eval_probe(
        model, source, out, settings, train_data=training, labels=labels, seed=common.seed, compute=compute
    )
    if not common.as_json:
        from rich.console import Console

        from lavit_evaluation.probing.show_probe import show_probe

        show_probe(result, Console())
    warn_again(result)
    last = [] if out is None else [f"{out / 'score.json'}: {len(result['figures'])} metrics"]
    if common.as_json or last:
        show(result, common, lines=last)

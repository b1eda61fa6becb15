"""The command `lavit eval probe`; `cli.py` registers it."""

import json
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.options import AsJson, ConfigFile, Device, DryRun, Model, Quiet, Seed, Sets


def probe(
    model: Model,
    data: Annotated[Path, typer.Option("--data", help="Pictures with labels, say DATA/heldout.", show_default=False)],
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
        Path | None, typer.Option("--labels", help="A labels.jsonl that lies elsewhere.", show_default=False)
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Linear probes through a tokenizer: where colour, shape, place, or your own labels are lost."""
    from lavit_core.config import resolve

    from lavit_evaluation.config import ProbeConfig

    settings = resolve(ProbeConfig, file=config, sets=sets)
    if dry_run:
        typer.echo(
            json.dumps({"config": settings.model_dump(mode="json"), "seed": seed}, indent=None if as_json else 2)
        )
        return
    from lavit_evaluation.probing.probe import eval_probe

    result = eval_probe(
        model, data, out, settings, train_data=train_data, labels=labels, seed=seed, device=device,
        quiet=quiet or as_json,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(result))
        return
    from rich.console import Console

    from lavit_evaluation.probing.table import show_probe

    show_probe(result, Console())
    if out is not None:
        typer.echo(f"{out / 'score.json'}: {len(result['figures'])} figures")

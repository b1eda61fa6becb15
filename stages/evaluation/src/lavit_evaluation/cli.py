"""Commands of the evaluation stage: `lavit eval <benchmark>`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.options import AsJson, ConfigFile, Device, DryRun, Model, Out, Preset, Quiet, Seed, Sets
from lavit_scoring.catalogue import BENCHMARKS

from lavit_evaluation.cli_benchmarks import command, retrieval
from lavit_evaluation.cli_coco_fid import coco_fid
from lavit_evaluation.cli_editing import editing
from lavit_evaluation.cli_images import clip_score, fid_stats
from lavit_evaluation.cli_probe import probe
from lavit_evaluation.cli_score import compare, list_benchmarks, score

evaluate = typer.Typer(help="Benchmarks: what a model answers, says and draws on held-out data.", no_args_is_help=True)


evaluate.command("score")(score)
evaluate.command("list")(list_benchmarks)
evaluate.command("compare")(compare)
for benchmark in BENCHMARKS:
    if benchmark.kind != "answerability":  # a model would have to say how sure it is
        evaluate.command(benchmark.name)((editing if benchmark.kind == "edit" else command)(benchmark))
for name in ("flickr30k-retrieval", "coco-retrieval"):
    evaluate.command(name)(retrieval(name))
evaluate.command("coco-fid")(coco_fid)
evaluate.command("fid-stats")(fid_stats)
evaluate.command("clip-score")(clip_score)
evaluate.command("probe")(probe)


@evaluate.command("shapes")
def shapes(
    model: Model,
    data: Annotated[Path, typer.Option("--data", help="Held-out data, say DATA/heldout.", show_default=False)],
    out: Out,
    blind: Annotated[
        Path | None, typer.Option("--blind", help="Model trained with --image-input none.", show_default=False)
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option("--tokens", help="Token directory whose codes are counted.", show_default=False)
    ] = None,
    train_data: Annotated[
        Path | None, typer.Option("--train-data", help="Training data, for majority answers.", show_default=False)
    ] = None,
    pictures: Annotated[
        int | None, typer.Option("--pictures", help="Pictures captioned and drawn (preset: 256).", show_default=False)
    ] = None,
    questions: Annotated[
        int | None, typer.Option("--questions", help="Questions asked (preset: 2000).", show_default=False)
    ] = None,
    llm_guidance: Annotated[
        float | None, typer.Option("--guidance-scale", help="Guidance of the codes.", show_default=False)
    ] = None,
    decoder_guidance: Annotated[
        float | None, typer.Option("--decoder-guidance-scale", help="Guidance of the pixels.", show_default=False)
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
    """Score a model on drawn shapes: questions, captions, drawings judged from pixels, reconstructions, tokens."""
    from lavit_core.config import load_preset, resolve

    from lavit_evaluation.config import ShapesConfig

    flags = {
        "pictures": pictures,
        "questions": questions,
        "llm_guidance": llm_guidance,
        "decoder_guidance": decoder_guidance,
    }
    shipped = load_preset("lavit_evaluation", "shapes", preset)
    settings = resolve(ShapesConfig, preset=shipped, file=config, sets=sets, flags=flags)
    if dry_run:
        print(json.dumps({"config": settings.model_dump(mode="json"), "seed": seed}, indent=None if as_json else 2))
        return
    from lavit_evaluation.shapes.benchmark import eval_shapes

    result = eval_shapes(
        model,
        data,
        out,
        settings,
        blind=blind,
        tokens=tokens,
        train_data=train_data,
        seed=seed,
        device=device,
        quiet=quiet or as_json,
    )
    if as_json:
        print(json.dumps(result))
        return
    if not quiet:
        from rich.console import Console

        from lavit_evaluation.table import show_score

        show_score(result, Console())
    print(f"{out / 'score.json'}: {len(result['figures'])} figures, samples beside it; next: lavit report {out}")

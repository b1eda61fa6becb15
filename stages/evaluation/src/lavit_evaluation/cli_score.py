"""`lavit eval score` and `lavit eval list`: what needs no model."""

import json
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.options import AsJson, Device, Seed, Sets

from lavit_evaluation.cli_options import ClipDir, DinoDir, Images, LpipsHeads, LpipsTrunk, Protocol, Split


def score(
    benchmark: Annotated[str, typer.Argument(help="vqav2, okvqa, gqa, ...; `lavit eval list` shows all.")],
    results: Annotated[
        Path, typer.Option("--results", help="Result file of any model; a folder for edits.", show_default=False)
    ],
    annotations: Annotated[
        Path, typer.Option("--annotations", help="Official answers or references.", show_default=False)
    ],
    questions: Annotated[
        Path | None, typer.Option("--questions", help="Question file, checked against both.", show_default=False)
    ] = None,
    choices: Annotated[
        Path | None, typer.Option("--choices", help="GQA's choices file: validity, plausibility.", show_default=False)
    ] = None,
    protocol: Protocol = "official",
    lemmatizer: Annotated[
        str | None,
        typer.Option("--lemmatizer", help="With lavit: given, rules or a spaCy model directory.", show_default=False),
    ] = None,
    split: Split = None,
    partial: Annotated[bool, typer.Option("--partial", help="Score what is there; marked, never complete.")] = False,
    java: Annotated[bool, typer.Option("--java", help="METEOR and SPICE too (Java, pycocoevalcap).")] = False,
    images: Images = None,
    clip: ClipDir = None,
    dino: DinoDir = None,
    lpips_trunk: LpipsTrunk = None,
    lpips_heads: LpipsHeads = None,
    sets: Sets = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for score.json and items.jsonl.", show_default=False)
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a result file, or edited pictures, of any model as the benchmark's own rules have it; no model is run."""
    from lavit_scoring.catalogue import find_benchmark
    from lavit_scoring.score_file import score_file
    from lavit_scoring.task import ScoringTask

    from lavit_evaluation.editing.score_edits import EditTask, as_edits, score_edits

    chosen = find_benchmark(benchmark)
    task = ScoringTask(
        results=results,
        annotations=annotations,
        questions=questions,
        choices=choices,
        protocol=protocol,
        lemmatizer=lemmatizer,
        split=split,
        partial=partial,
        java=java,
        seed=seed,
    )
    weights = {"clip": clip, "dino": dino, "lpips_trunk": lpips_trunk, "lpips_heads": lpips_heads}
    task = as_edits(chosen, task, weights, images=images, sets=sets, device=device, quiet=as_json)
    result = score_file(chosen, task, out, score_edits if isinstance(task, EditTask) else None)
    if as_json:
        typer.echo(json.dumps(result))
        return
    from lavit_scoring.show import show_result

    typer.echo(show_result(result))
    if out is not None:
        typer.echo(f"{out / 'score.json'}: {len(result['figures'])} figures, the score of every item beside it")


def list_benchmarks(
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with downloads: say what is there.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the benchmarks, the files each needs, where they come from, and which of them lie under --data."""
    from lavit_scoring.show import list_rows, show_list

    rows = list_rows(data)
    if as_json:
        typer.echo(json.dumps({"benchmarks": rows}))
        return
    typer.echo(show_list(rows))


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders with score.json, or such files.", show_default=False)],
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Put scores side by side; what keeps them from being compared is said first."""
    from lavit_scoring.compare import compare as compare_scores

    result = compare_scores(runs, seed=seed)
    if as_json:
        typer.echo(json.dumps(result))
        return
    from lavit_scoring.show import show_comparison

    typer.echo(show_comparison(result))

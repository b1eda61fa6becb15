"""`lavit eval score`, `list` and `compare`: what needs no model."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from lavit_core.command import NO_PRESET, CommonOptions, OutputOptions, Renamed, command, settings_of, show
from lavit_core.options import Seed, argument, option

from lavit_evaluation.options import Images, Weights

if TYPE_CHECKING:
    from lavit_scoring import Benchmark


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """By whose rules a result file is scored, and the official files beside the answers."""

    questions: Annotated[Path | None, option("--questions", help="Question file, checked against both.")] = None
    choices: Annotated[Path | None, option("--choices", help="GQA's choices file: validity, plausibility.")] = None
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol", help="official (the server's rules), or another of the benchmark's: lavit, lmms-eval ..."
        ),
    ] = "official"
    lemmatizer: Annotated[
        str | None, option("--lemmatizer", help="With lavit: given, rules or a spaCy model directory.")
    ] = None
    split: Annotated[str | None, option("--split", help="Split of a Karpathy file (test).")] = None
    partial: Annotated[bool, typer.Option("--partial", help="Score what is there; marked, never complete.")] = False
    java: Annotated[bool, typer.Option("--java", help="METEOR and SPICE too (Java, pycocoevalcap).")] = False
    judge: Annotated[str | None, option("--judge", help="Who judged generated images; written into the score.")] = None


@command(omit=["preset", "precision"], renamed=[Renamed("--clip", "--clip-model")])
def score(
    benchmark: Annotated[str, typer.Argument(help="vqav2, okvqa, gqa, ...; `lavit eval list` shows all.")],
    results: Annotated[Path, option("--results", help="Result file of any model; a folder for edits, MME.")],
    annotations: Annotated[Path, option("--annotations", help="Official answers or references.")],
    rules: RuleOptions,
    images: Images = None,
    weights: Weights = Weights(),
    out: Annotated[Path | None, option("--out", help="Folder for score.json and items.jsonl.")] = None,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Score a result file, or edited images, of any model as the benchmark's own rules have it; no model is run."""
    from lavit_scoring import ScoringTask, find_benchmark, score_results, write_score
    from lavit_scoring.scorers import check
    from lavit_scoring.show import show_result

    from lavit_evaluation.editing.config import EditScoreConfig
    from lavit_evaluation.editing.judges import load_judges
    from lavit_evaluation.editing.score_edits import EditScoring, check_edits, score_edits

    if benchmark is None:
        settings_of(common, EditScoreConfig)  # --print-config alone
    chosen = find_benchmark(benchmark)
    if chosen.kind != "edit":
        _refuse_edit_options(chosen, images, weights, common)
    config = settings_of(common, EditScoreConfig)
    task = ScoringTask(results=results, annotations=annotations, seed=common.seed, **dataclasses.asdict(rules))
    if common.dry_run:
        (check_edits if chosen.kind == "edit" else check)(chosen, task)
        return show({"benchmark": chosen.name, "results": str(results), "annotations": str(annotations)}, common)
    if chosen.kind == "edit":
        judges = load_judges(weights, config, device=common.device)
        scoring = EditScoring(config=config, judges=judges, images=images, quiet=common.silent)
        found = score_edits(chosen, task, scoring)
    else:
        found = score_results(chosen, task)
    result = write_score(chosen, task, found, out)
    written = f"{out}/score.json: {len(result['figures'])} metrics, the score of every item beside it"
    show(result, common, *([written] if out else []), lines=show_result(result))


def _refuse_edit_options(benchmark: "Benchmark", images: Path | None, weights: Weights, common: CommonOptions) -> None:
    """Raise UsageError for options that a result file has no use for."""
    from lavit_core.errors import UsageError

    given: dict[str, Any] = {"--images": images, **weights.by_option()}
    given |= {"--set": common.sets, "--config": common.config, "--print-config": common.print_config}
    for name, value in given.items():
        if value:
            raise UsageError(f"{name}: {benchmark.name} has no edited images; magicbrush and ma5k have")


@command()
def list_benchmarks(
    data: Annotated[Path | None, option("--data", help="Folder with downloads: say what is there.")] = None,
    output: OutputOptions = OutputOptions(),
) -> None:
    """List the benchmarks, the files each needs, where they come from, and which of them lie under --data."""
    from lavit_scoring.show import list_rows, show_list

    rows = list_rows(data)
    show({"benchmarks": rows}, output, lines=show_list(rows))


@command()
def compare(
    runs: Annotated[list[Path], argument(help="Folders with score.json, or such files.")],
    seed: Seed = 0,
    output: OutputOptions = OutputOptions(),
) -> None:
    """Put scores side by side; what keeps them from being compared is said first."""
    from lavit_scoring.compare import compare as compare_scores
    from lavit_scoring.show import show_comparison

    result = compare_scores(runs, seed=seed)
    show(result, output, lines=show_comparison(result))

"""`lavit eval vqav2` and its kin: official benchmarks run with a model, one command each, all with the same options."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.options import AsJson, ConfigFile, Device, DryRun, Model, Out, Quiet, Seed, Sets
from lavit_scoring.catalogue import Benchmark

from lavit_evaluation.cli_options import (
    AllowNetwork,
    Annotations,
    AnySplit,
    BatchSize,
    DownloadsOrDataset,
    Images,
    Limit,
    Protocol,
)


def command(benchmark: Benchmark) -> Callable[..., None]:
    """Return the command of one benchmark."""

    def run(
        model: Model,
        data: DownloadsOrDataset,
        out: Out,
        annotations: Annotations = None,
        questions: Annotated[
            Path | None, typer.Option("--questions", help="Instead of the one under --data.", show_default=False)
        ] = None,
        images: Images = None,
        split: AnySplit = None,
        protocol: Protocol = "official",
        lemmatizer: Annotated[
            str | None, typer.Option("--lemmatizer", help="With lavit: rules or a spaCy model.", show_default=False)
        ] = None,
        limit: Limit = None,
        batch_size: BatchSize = 32,
        config: ConfigFile = None,
        sets: Sets = None,
        seed: Seed = 0,
        device: Device = "auto",
        as_json: AsJson = False,
        quiet: Quiet = False,
        dry_run: DryRun = False,
        allow_network: AllowNetwork = False,
    ) -> None:
        from lavit_core.config import resolve

        from lavit_evaluation.running.benchmark import RunConfig, check, run_benchmark

        settings = resolve(RunConfig, file=config, sets=sets, flags={"limit": limit})
        check(benchmark, protocol, lemmatizer)
        if dry_run:
            shown = {"benchmark": benchmark.name, "config": settings.model_dump(mode="json"), "protocol": protocol}
            typer.echo(json.dumps(shown | {"lemmatizer": lemmatizer, "seed": seed}, indent=None if as_json else 2))
            return
        result = run_benchmark(
            benchmark,
            model,
            data,
            out,
            settings,
            annotations=annotations,
            questions=questions,
            images=images,
            split=split,
            protocol=protocol,
            lemmatizer=lemmatizer,
            batch_size=batch_size,
            seed=seed,
            device=device,
            quiet=quiet or as_json,
            allow_network=allow_network,
        )
        if as_json:
            typer.echo(json.dumps(result))
            return
        if not quiet and "items" in result:
            from lavit_scoring.show import show_result

            typer.echo(show_result(result))
        typer.echo(f"{out / 'results.json'}: the server's result file; {out / 'score.json'}: the score")

    run.__doc__ = f"{benchmark.title} ({benchmark.size}): ask a model, write the server's result file, score it."
    return run


def retrieval(name: str) -> Callable[..., None]:
    """Return the command of one retrieval benchmark."""

    def run(
        model: Model,
        data: DownloadsOrDataset,
        out: Out,
        annotations: Annotations = None,
        images: Images = None,
        split: AnySplit = None,
        likelihood: Annotated[
            str | None,
            typer.Option(
                "--likelihood",
                metavar="text|codes|both",
                help="log p(caption | picture), log p(codes | caption), or each (text).",
                show_default=False,
            ),
        ] = None,
        limit: Limit = None,
        batch_size: BatchSize = 64,
        config: ConfigFile = None,
        sets: Sets = None,
        seed: Seed = 0,
        device: Device = "auto",
        as_json: AsJson = False,
        quiet: Quiet = False,
        allow_network: AllowNetwork = False,
    ) -> None:
        from lavit_core.config import resolve

        from lavit_evaluation.running.retrieval import RetrievalConfig, run_retrieval

        result = run_retrieval(
            name,
            model,
            data,
            out,
            resolve(RetrievalConfig, file=config, sets=sets, flags={"limit": limit, "likelihood": likelihood}),
            annotations=annotations,
            images=images,
            split=split,
            batch_size=batch_size,
            seed=seed,
            device=device,
            quiet=quiet or as_json,
            allow_network=allow_network,
        )
        if as_json:
            typer.echo(json.dumps(result))
            return
        from lavit_scoring.show import show_result

        typer.echo(show_result(result))
        typer.echo(f"{out / 'score.json'}: the score")

    run.__doc__ = "Rank pictures by captions and captions by pictures (R@1, 5, 10), by likelihood."
    return run

"""`lavit eval vqav2` and its kin, and retrieval: official benchmarks run with a model, one command each."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from lavit_core.command import NO_PRESET, CommonOptions, OutputOptions, command, settings_of, show
from lavit_core.options import Model, Out, option

from lavit_evaluation.options import BatchSize, Files, Lemmatizer, Limit, Protocol, QuestionFiles, compute_of

if TYPE_CHECKING:
    from lavit_scoring import Benchmark


def answers(benchmark: "Benchmark") -> Callable[..., None]:
    """Return the command of a benchmark of questions or captions."""

    @command()
    def run(
        model: Model,
        out: Out,
        files: QuestionFiles,
        protocol: Protocol = "official",
        lemmatizer: Lemmatizer = None,
        limit: Limit = None,
        batch_size: BatchSize = 32,
        *,
        common: CommonOptions = NO_PRESET,
    ) -> None:
        from lavit_evaluation.benchmarks.answers import AnswerConfig, check, run_answers

        settings = settings_of(common, AnswerConfig, ("lavit_evaluation", "answers"), {"limit": limit})
        check(benchmark, protocol, lemmatizer)
        if common.dry_run:
            planned = {"benchmark": benchmark.name, "config": settings.model_dump(mode="json"), "protocol": protocol}
            return show(planned | {"lemmatizer": lemmatizer, "seed": common.seed}, common)
        result = run_answers(
            benchmark, model, files, out, settings, protocol=protocol, lemmatizer=lemmatizer, seed=common.seed,
            compute=compute_of(common, batch_size),
        )  # fmt: skip
        score = "the score" if "items" in result else "why there is no score"
        last = f"{out / 'results.json'}: the server's result file; {out / 'score.json'}: {score}"
        show_result(result, common, last)

    run.__doc__ = f"{benchmark.title} ({benchmark.size}): ask a model, write the server's result file, score it."
    return run


def retrieval(name: str) -> Callable[..., None]:
    """Return the command of one retrieval benchmark."""

    @command(omit=["preset"])
    def run(
        model: Model,
        out: Out,
        files: Files,
        likelihood: Annotated[
            str | None,
            option(
                "--likelihood",
                metavar="text|codes|both",
                help="log p(caption | image), log p(codes | caption), or each (text).",
            ),
        ] = None,
        limit: Limit = None,
        batch_size: BatchSize = 64,
        *,
        common: CommonOptions = NO_PRESET,
    ) -> None:
        from lavit_evaluation.benchmarks.retrieval import RetrievalConfig, run_retrieval

        settings = settings_of(common, RetrievalConfig, flags={"limit": limit, "likelihood": likelihood})
        if common.dry_run:
            planned = {"benchmark": name, "config": settings.model_dump(mode="json"), "seed": common.seed}
            return show(planned, common)
        compute = compute_of(common, batch_size)
        result = run_retrieval(name, model, files, out, settings, seed=common.seed, compute=compute)
        show_result(result, common, f"{out / 'score.json'}: the score")

    run.__doc__ = "Rank images by captions and captions by images (R@1, 5, 10), by likelihood."
    return run


def show_result(result: dict[str, Any], options: OutputOptions, *last: str) -> None:
    """Print a benchmark's score: as one JSON object, or as a table with `last` below it (quietly: `last` alone).

    Without a score (a test split), the reasons stand in the table's place.
    """
    from lavit_scoring.show import show_result as as_lines

    reasons = [f"{name}: skipped: {reason}" for name, reason in result["skipped"].items()]
    table = [] if options.quiet else [as_lines(result)] if "items" in result else reasons
    show(result, options, lines=[*table, *last])

"""`lavit eval magicbrush` and `lavit eval ma5k`: editing benchmarks run with a model."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lavit_core.command import CommonOptions, Renamed, command, print_config, show
from lavit_core.options import Highres, Model, Out

from lavit_evaluation.cli_benchmarks import show_result
from lavit_evaluation.options import BatchSize, Files, Limit, Weights, compute_of

if TYPE_CHECKING:
    from lavit_scoring import Benchmark


def editing(benchmark: "Benchmark") -> Callable[..., None]:
    """Return the command of one editing benchmark."""

    @command(renamed=[Renamed("--clip", "--clip-model")])
    def run(
        model: Model,
        out: Out,
        files: Files,
        weights: Weights = Weights(),
        limit: Limit = None,
        batch_size: BatchSize = 16,
        highres: Highres = False,
        *,
        common: CommonOptions,
    ) -> None:
        from lavit_evaluation.drawing_settings import resolve_drawing
        from lavit_evaluation.editing.config import EditRunConfig
        from lavit_evaluation.editing.run_edits import run_edits

        assert common.preset is not None
        settings = resolve_drawing(
            EditRunConfig, model, common.preset, file=common.config, sets=common.sets, flags={"limit": limit}
        )
        config = settings.model_dump(mode="json")
        if common.print_config:
            print_config(config, common)
        if common.dry_run:
            from lavit_evaluation.editing.judges import load_judges
            from lavit_evaluation.editing.run_edits import plan_edits
            from lavit_evaluation.model import find_drawing_parts
            from lavit_evaluation.tables.unpack import is_data_set

            find_drawing_parts(model, highres=highres)
            planned: dict[str, Any] = {"benchmark": benchmark.name}
            planned["skipped"] = load_judges(weights, settings, device="cpu").skipped
            if is_data_set(benchmark, files.data):
                planned["data"] = f"a data set, unpacked into {out / 'data'} first"
            else:
                plan = plan_edits(benchmark, files, settings, seed=common.seed)
                planned |= {"annotations": str(plan.annotations), "edits": len(plan.edits)}
                planned |= {"expected": plan.expected}
            return show(planned | {"config": config, "seed": common.seed}, common)
        result = run_edits(
            benchmark, model, files, out, settings, weights=weights, highres=highres, seed=common.seed,
            compute=compute_of(common, batch_size),
        )  # fmt: skip
        last = f"{out / 'edited'}: the edited images; {out / 'score.json'}: the score"
        show_result(result, common, last)

    run.__doc__ = f"{benchmark.title} ({benchmark.size}): have a model edit every image, compare with the targets."
    return run

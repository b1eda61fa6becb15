"""`lavit eval geneval` and its kin: images for the judges of generation benchmarks."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lavit_core.command import CommonOptions, command, print_config, show
from lavit_core.options import Highres, Model, Out, option

from lavit_evaluation.options import BatchSize, Limit, compute_of

if TYPE_CHECKING:
    from lavit_scoring import Benchmark

DRAWN = ("geneval", "dpg", "wise", "t2i", "t2i_complex")
"""Kinds whose images are drawn here and judged elsewhere."""


def generation(benchmark: "Benchmark") -> Callable[..., None]:
    """Return the command of one generation benchmark."""

    @command()
    def run(
        model: Model,
        data: Annotated[Path, option("--data", help="Folder with the official prompts.")],
        out: Out,
        annotations: Annotated[Path | None, option("--annotations", help="Prompts, instead of the ones there.")] = None,
        rewritten: Annotated[
            Path | None, option("--rewritten", help="The same prompts in other words, in the same layout.")
        ] = None,
        images_per_prompt: Annotated[
            int | None, option("--images-per-prompt", min=1, help="Images of each prompt (as the official scripts).")
        ] = None,
        limit: Limit = None,
        batch_size: BatchSize = 16,
        highres: Highres = False,
        *,
        common: CommonOptions,
    ) -> None:
        from lavit_evaluation.drawing_settings import resolve_drawing
        from lavit_evaluation.generation.config import GenerationConfig
        from lavit_evaluation.generation.run_generation import IMAGES, plan_generation, run_generation

        assert common.preset is not None
        flags = {"images_per_prompt": images_per_prompt, "limit": limit}
        settings = resolve_drawing(
            GenerationConfig, model, common.preset, file=common.config, sets=common.sets, flags=flags
        )
        config = settings.model_dump(mode="json")
        if common.print_config:
            print_config(config, common)
        plan = plan_generation(
            benchmark, data, settings, annotations=annotations, rewritten=rewritten, seed=common.seed
        )
        if common.dry_run:
            from lavit_evaluation.model import find_drawing_parts

            find_drawing_parts(model, highres=highres)
            planned: dict[str, Any] = {"benchmark": benchmark.name, "annotations": str(plan.annotations), **plan.record}
            planned |= {"files": len(plan.files), "first": plan.files[0].name, "config": config, "seed": common.seed}
            return show(planned, common)
        result = run_generation(
            benchmark, model, plan, out, settings, highres=highres, seed=common.seed,
            compute=compute_of(common, batch_size),
        )  # fmt: skip
        prompts, lines = result["prompts"], []
        if not result["complete"]:
            lines.append(f"INCOMPLETE: {prompts['drawn']:,} of {prompts['expected']:,} prompts. Not {benchmark.name}.")
        lines.append(
            f"{out / IMAGES}: {result['files']:,} files, {result['images_per_prompt']} images a prompt, words "
            f"{prompts['words']} (sha256 {prompts['sha256'][:16]})"
        )
        lines.append(
            f"next: have them judged ({benchmark.source}), put the results into {out}, then lavit eval score "
            f"{benchmark.name} --results {out}/FILE --annotations {plan.annotations}"
        )
        show(result, common, lines=lines)

    run.__doc__ = f"{benchmark.title} ({benchmark.size}): draw the images in the official layout, for its judge."
    return run

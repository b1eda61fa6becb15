"""`lavit eval magicbrush` and `lavit eval ma5k`: editing benchmarks run with a model."""

import json
from collections.abc import Callable
from typing import Any

import typer
from lavit_core import options as shared
from lavit_scoring.catalogue import Benchmark

from lavit_evaluation import cli_options as options


def editing(benchmark: Benchmark) -> Callable[..., None]:
    """Return the command of one editing benchmark."""

    def run(
        model: shared.Model,
        data: options.DownloadsOrDataset,
        out: shared.Out,
        annotations: options.Annotations = None,
        images: options.Images = None,
        split: options.AnySplit = None,
        clip: options.ClipDir = None,
        dino: options.DinoDir = None,
        lpips_trunk: options.LpipsTrunk = None,
        lpips_heads: options.LpipsHeads = None,
        limit: options.Limit = None,
        batch_size: options.BatchSize = 16,
        highres: shared.Highres = False,
        preset: shared.Preset = "tiny",
        config: shared.ConfigFile = None,
        sets: shared.Sets = None,
        seed: shared.Seed = 0,
        device: shared.Device = "auto",
        precision: shared.Precision = "auto",
        as_json: shared.AsJson = False,
        quiet: shared.Quiet = False,
        dry_run: shared.DryRun = False,
        allow_network: options.AllowNetwork = False,
    ) -> None:
        from lavit_evaluation.editing.config import Weights, resolve_run
        from lavit_evaluation.editing.judges import load_judges
        from lavit_evaluation.editing.run_edits import ask, run_edits
        from lavit_evaluation.running.painter import check_painter
        from lavit_evaluation.tables.unpack import is_data_set

        settings = resolve_run(model, preset, file=config, sets=sets, limit=limit)
        weights = Weights(clip=clip, dino=dino, lpips_trunk=lpips_trunk, lpips_heads=lpips_heads)
        if dry_run:
            check_painter(model, highres=highres)
            judges = load_judges(weights, settings, device="cpu")
            shown: dict[str, Any] = {"benchmark": benchmark.name, "skipped": judges.skipped}
            if is_data_set(benchmark, data):
                shown |= {"data": f"a data set, unpacked into {out / 'data'} first"}
            else:
                asked = ask(benchmark, data, settings, annotations=annotations, images=images, split=split, seed=seed)
                shown |= {"annotations": str(asked.annotations), "edits": len(asked.edits), "expected": asked.expected}
            shown |= {"config": settings.model_dump(mode="json"), "seed": seed}
            typer.echo(json.dumps(shown, indent=None if as_json else 2))
            return

        result = run_edits(
            benchmark,
            model,
            data,
            out,
            settings,
            weights=weights,
            annotations=annotations,
            images=images,
            split=split,
            highres=highres,
            batch_size=batch_size,
            seed=seed,
            device=device,
            precision=precision,
            quiet=quiet or as_json,
            allow_network=allow_network,
        )
        if as_json:
            typer.echo(json.dumps(result))
            return
        if not quiet:
            from lavit_scoring.show import show_result

            typer.echo(show_result(result))
        typer.echo(f"{out / 'edited'}: the edited pictures; {out / 'score.json'}: the score")

    run.__doc__ = f"{benchmark.title} ({benchmark.size}): have a model edit every picture, compare with the targets."
    return run

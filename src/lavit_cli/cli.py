"""Commands that compose several stages, and those that look at a machine or a run."""

from pathlib import Path
from typing import Annotated

import typer
from lavit_core.command import CommonOptions, OutputOptions, Renamed, command, print_config, show
from lavit_core.data_options import DataOptions
from lavit_core.follow import FollowOptions
from lavit_core.options import Out, argument, option

from lavit_cli import options

Folder = Annotated[Path, argument(metavar="SRC", help="Folder of the released weights.")]
Model = Annotated[Path, argument(metavar="MODEL", help="Model directory.")]
Run = Annotated[Path, argument(metavar="RUN", help="A run directory.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the files, and write nothing.")]


@command(omit=["precision"])
def quickstart(
    out: Annotated[Path | None, option("--out", help="Run directory (required), say runs/demo.")] = None,
    data: options.Data = None,
    images: options.NumTrainingImages = None,
    stop_after: options.StopAfter = None,
    *,
    follow: FollowOptions,
    layout: DataOptions,
    common: CommonOptions,
) -> None:
    """Run the whole pipeline and write a model, its metrics and a report; the same command resumes."""
    from lavit_core.errors import UsageError

    from lavit_cli.quickstart import plan, quickstart, settled, show_summary

    if data is not None and images is not None:
        raise UsageError(f"--images {images} is how many images are rendered, and --data has its own: leave one out")
    settings = plan(preset=str(common.preset), config=common.config, sets=common.sets, images=images)
    if common.dry_run or common.print_config:
        print_config(settled(settings), common)
    if out is None:
        raise UsageError("--out is missing, for example: lavit quickstart --out runs/demo")
    source = None if data is None else layout.source(data)
    done = quickstart(
        out,
        settings,
        data=source,
        seed=common.seed,
        device=common.device,
        stop_after=stop_after,
        follow=follow,
        quiet=common.quiet,
    )
    show_summary(out, done, as_json=common.as_json)


@command(renamed=[Renamed("--softmax", "--attention", {"released": "dense", "exact": "packed"})])
def import_checkpoint(
    src: Folder,
    out: Out,
    encoder_heads: Annotated[
        int | None, typer.Option("--encoder-heads", min=1, help="Attention heads of the encoder (published: 16).")
    ] = None,
    heads: Annotated[
        int | None, typer.Option("--heads", min=1, help="Attention heads of merger and decoders (published: 16).")
    ] = None,
    attention: Annotated[
        str, typer.Option("--attention", help="dense (the released numbers) or packed (faster).")
    ] = "dense",
    dry_run: DryRun = False,
    *,
    output: OutputOptions,
) -> None:
    """Turn the released weights (or some of their files) into a model directory; nothing in them is executed."""
    from lavit_cli.import_checkpoint import import_checkpoint
    from lavit_cli.import_summary import lines

    made = import_checkpoint(
        src, out, encoder_heads=encoder_heads, heads=heads, attention=attention, dry_run=dry_run, quiet=output.silent
    )
    show(made, output, lines=lines(made, out, dry_run=dry_run))


@command()
def export_checkpoint(model: Model, out: Out, output: OutputOptions) -> None:
    """Write a model directory in the released layout, for the authors' inference code."""
    from lavit_cli.export_checkpoint import export_checkpoint

    made = export_checkpoint(model, out, quiet=output.silent)
    notes = [f"not in it: {name} of {file}" for file, names in made["missing"].items() for name in names]
    notes += [f"left out: {name} ({why})" for name, why in made["left_out"].items()]
    show(made, output, lines=[*notes, f"{len(made['files'])} files in {out}"])


@command()
def report(
    run: Run,
    out: Annotated[Path | None, typer.Option("--out", help="HTML file (default: RUN/report.html).")] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="reference|RUN", help="Draw the curves over those of the demo, or of a run."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Write it every 10 s until the run is finished; an open page follows.")
    ] = False,
    *,
    output: OutputOptions,
) -> None:
    """Write one self-contained page about a run: images, curves, metrics, costs, versions."""
    from lavit_cli.report.live import follow_run
    from lavit_cli.report.page import write_report

    file = (follow_run if live else write_report)(run, out, against=against)
    made = {"report": str(file), "bytes": file.stat().st_size}
    show(made, output, lines=[f"{file}: open it in a browser"])


@command()
def doctor(output: OutputOptions) -> None:
    """Check the installation: versions, devices and dtypes, disk, memory, each stage; exit 1 if something is broken."""
    from lavit_cli.doctor import examine, show

    checks = examine()
    show(checks, as_json=output.as_json)
    raise typer.Exit(1 if any(check.state == "broken" for check in checks) else 0)

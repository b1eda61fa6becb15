"""Commands of the core: `lavit data ...`, `lavit tokens ...` and `lavit verify`."""

from pathlib import Path
from typing import Annotated

import typer

from lavit_core.command import OutputOptions, command, show
from lavit_core.data_options import DATA_HELP, DataOptions
from lavit_core.options import Out, argument, option

data = typer.Typer(help="Data sets: make the synthetic one, inspect and preview your own.", no_args_is_help=True)
tokens = typer.Typer(help="Token directories: look into, check, export.", no_args_is_help=True)

TokenFolder = Annotated[Path, argument(metavar="TOKENS", help="Token directory.")]


@data.command("inspect")
@command()
def inspect_data(
    path: Annotated[Path, argument(metavar="DATA", help=DATA_HELP)],
    layout: DataOptions,
    output: OutputOptions,
    min_pixels: Annotated[int, option("--min-pixels", min=1, help="Count smaller images as unreadable.")] = 1,
    max_pixels: Annotated[int | None, option("--max-pixels", min=1, help="Count larger ones so too.")] = None,
    against: Annotated[
        Path | None,
        option("--against", metavar="DATA", help="List the images that are in this data set too, byte for byte."),
    ] = None,
    against_split: Annotated[
        str | None, option("--against-split", metavar="NAME", help="Split of --against, where it holds several.")
    ] = None,
) -> None:
    """Recognise a data set's layout; count its images, captions and questions; list what is wrong (then exit 3)."""
    from lavit_core import data_report
    from lavit_core.errors import InputError, UsageError
    from lavit_core.images import MAX_PIXELS
    from lavit_core.records import Source

    if against_split is not None and against is None:
        raise UsageError("--against-split needs --against")
    source, limits = layout.source(path), {"min_pixels": min_pixels, "max_pixels": max_pixels or MAX_PIXELS}
    other = against and Source(against, split=against_split, allow_network=source.allow_network)
    report = data_report.inspect_data(source, **limits, against=other, quiet=output.silent)
    show(report, output, lines=list(data_report.report_lines(report)))
    if problems := data_report.count_problems(report):
        raise InputError(f"{path}: {problems} problem(s), listed above; training and scoring refuse such a data set")
    if not report["images"] and not report["questions"]:
        raise InputError(f"{path}: no image in it, expected at least one")
    if report["images"] == len(report["unreadable"]) > 0:
        raise InputError(f"{path}: none of {report['images']} images can be read; the reasons are listed above")


@tokens.command("inspect")
@command()
def inspect_tokens(path: TokenFolder, output: OutputOptions) -> None:
    """Show counts, lengths, code usage and size of a token directory."""
    from lavit_core import token_check

    report = token_check.inspect_tokens(path)
    shown = {
        name: ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        for name, value in report.items()
    }
    show(report, output, lines=[f"{name.replace('_', ' '):<17}{value}" for name, value in shown.items()])


@tokens.command("verify")
@command()
def verify_tokens(path: TokenFolder, output: OutputOptions) -> None:
    """Check every byte and every rule of the format; exits 4 naming the damaged shards."""
    from lavit_core import token_check
    from lavit_core.errors import VerificationError

    problems = token_check.verify_tokens(path, quiet=output.silent)
    if output.as_json or not problems:
        whole = f"{path}: every shard is whole and keeps to the format"
        show({"path": str(path), "ok": not problems, "problems": problems}, output, lines=[whole])
    if problems:
        more = f" (and {len(problems) - 1} more damaged)" if problems[1:] else ""
        raise VerificationError(
            f"{problems[0]}{more}; delete it and run the same `lavit tokenize-images` again, or give it a new --out"
        )


@command()
def verify(
    path: Annotated[Path, argument(metavar="MODEL|TOKENS|RUN", help="Model, token or run directory.")],
    layout: DataOptions,
    output: OutputOptions,
    images: Annotated[
        Path | None,
        option("--data", metavar="DATA", help="Compare these images with those that the tokens were made from."),
    ] = None,
) -> None:
    """Check a model, token or run directory against its digests; exits 4 naming the damaged file.

    Of a model: the content of lavit.json and every byte of its parts. Of tokens: the content of manifest.json and every
    byte of its shards. Of a training run: every checkpoint, and the model. Of whatever a run has finished: its record,
    which is config.yaml, run.json, DONE, and metrics, warnings, errors and scores where there are any.
    """
    import dataclasses

    from lavit_core.errors import VerificationError
    from lavit_core.verify import verify

    parts = verify(path, quiet=output.silent)
    if images is not None:
        from lavit_core.image_check import verify_images

        parts.append(verify_images(path, layout.source(images), quiet=output.silent))
    problems = [problem for part in parts for problem in part.problems]
    result = {"path": str(path), "ok": not problems, "parts": [dataclasses.asdict(part) for part in parts]}
    show(result, output, lines=[part.line() for part in parts])
    if problems:
        more = f" (and {len(problems) - 1} more; --json lists them)" if problems[1:] else ""
        raise VerificationError(f"{problems[0]}{more}")


@tokens.command("export")
@command()
def export_tokens(
    path: TokenFolder,
    out: Out,
    to: Annotated[str | None, option("--to", metavar="parquet|jsonl", help="Format (default: as --out ends).")] = None,
    *,
    output: OutputOptions,
) -> None:
    """Write one row an image: key, codes, patches, captions."""
    from lavit_core import token_export

    to = token_export.format_of(out, to)
    rows = token_export.export_tokens(path, to, out)
    show({"path": str(out), "rows": rows, "format": to}, output, lines=[f"{out}: {rows} rows"])

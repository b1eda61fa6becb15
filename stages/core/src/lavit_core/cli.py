"""Commands of the core: `lavit data ...` and `lavit tokens ...`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lavit_core.options import AsJson, Out, Quiet

data = typer.Typer(help="Data sets: make the synthetic one, inspect your own.", no_args_is_help=True)
tokens = typer.Typer(help="Token directories: look into, check, export.", no_args_is_help=True)

TokenFolder = Annotated[Path, typer.Argument(metavar="TOKENS", help="Token directory.", show_default=False)]


@data.command("inspect")
def inspect_data(
    path: Annotated[
        Path, typer.Argument(help="Folder of pictures, with or without captions.jsonl.", show_default=False)
    ],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Recognise a data set's layout; count its pictures, captions and questions; list what is wrong (then exit 3)."""
    from lavit_core import data_report
    from lavit_core.errors import InputError

    report = data_report.inspect_data(path, quiet=quiet)
    if as_json:
        print(json.dumps(report))
    else:
        for line in data_report.report_lines(report):
            print(line)
    if problems := data_report.count_problems(report):
        raise InputError(f"{path}: {problems} problem(s), listed above; training and scoring refuse such a data set")


@tokens.command("inspect")
def inspect_tokens(path: TokenFolder, as_json: AsJson = False) -> None:
    """Show counts, lengths, code usage and size of a token directory."""
    from lavit_core import token_check

    report = token_check.inspect_tokens(path)
    if as_json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"{name.replace('_', ' '):<17}{shown}")


@tokens.command("verify")
def verify_tokens(path: TokenFolder, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Check every byte and every rule of the format; exits 4 naming the damaged shards."""
    from lavit_core import token_check
    from lavit_core.errors import VerificationError

    problems = token_check.verify_tokens(path, quiet=quiet)
    if as_json:
        print(json.dumps({"path": str(path), "ok": not problems, "problems": problems}))
    if problems:
        more = f" (and {len(problems) - 1} more damaged)" if problems[1:] else ""
        raise VerificationError(
            f"{problems[0]}{more}; delete it and run the same `lavit tokenize-images` again, or give it a new --out"
        )
    if not as_json and not quiet:
        print(f"{path}: every shard is whole and keeps to the format")


@tokens.command("export")
def export_tokens(
    path: TokenFolder,
    out: Out,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="parquet|jsonl", help="Format (default: as --out ends).", show_default=False),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one row an image: key, codes, patches, captions."""
    from lavit_core import token_export

    to = token_export.format_of(out, to)
    rows = token_export.export_tokens(path, to, out)
    if as_json:
        print(json.dumps({"path": str(out), "rows": rows, "format": to}))
    elif not quiet:
        print(f"{out}: {rows} rows")

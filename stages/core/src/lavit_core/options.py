"""Arguments that several commands spell the same way; the common options are in `lavit_core.command`."""

import functools
from pathlib import Path
from typing import Annotated

import typer

option = functools.partial(typer.Option, show_default=False)
"""typer.Option for a value without a default, or whose help names it."""
argument = functools.partial(typer.Argument, show_default=False)
"""typer.Argument of the same kind."""

Seed = Annotated[int, typer.Option("--seed", help="Seed of every random draw.")]
Model = Annotated[Path, option("--model", help="Model directory.")]
ModelOrDefault = Annotated[
    Path | None, option("--model", help="Model directory (default: $LAVIT_MODEL, else the newest under ./runs).")
]
Highres = Annotated[bool, typer.Option("--highres", help="Draw with detokenizer-highres/ (imported weights: SDXL).")]
AspectRatio = Annotated[
    str | None, option("--aspect-ratio", metavar="W:H", help="1:1, 4:3, 3:2, 16:9, 2:3 or 3:4 (SDXL only).")
]
Size = Annotated[str | None, option("--size", metavar="WxH", help="Width and height in pixels, of those trained.")]
Out = Annotated[Path, option("--out", help="Where the result goes.")]
ModelUnlessDry = Annotated[Path | None, option("--model", help="Model directory (not needed with --dry-run).")]
OutUnlessDry = Annotated[Path | None, option("--out", help="Where the result goes (not needed with --dry-run).")]

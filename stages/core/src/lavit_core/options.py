"""Arguments that several commands spell the same way; the common options are in `lavit_core.command`."""

from pathlib import Path
from typing import Annotated

import typer

Seed = Annotated[int, typer.Option("--seed", help="Seed of every random draw.")]
Model = Annotated[Path, typer.Option("--model", help="Model directory.", show_default=False)]
ModelOrDefault = Annotated[
    Path | None,
    typer.Option(
        "--model", help="Model directory (default: $LAVIT_MODEL, else the newest under ./runs).", show_default=False
    ),
]
Highres = Annotated[bool, typer.Option("--highres", help="Draw with detokenizer-highres/ (imported weights: SDXL).")]
AspectRatio = Annotated[
    str | None,
    typer.Option(
        "--aspect-ratio", metavar="W:H", help="1:1, 4:3, 3:2, 16:9, 2:3 or 3:4 (SDXL only).", show_default=False
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Where the result goes.", show_default=False)]
ModelUnlessDry = Annotated[
    Path | None, typer.Option("--model", help="Model directory (not needed with --dry-run).", show_default=False)
]
OutUnlessDry = Annotated[
    Path | None, typer.Option("--out", help="Where the result goes (not needed with --dry-run).", show_default=False)
]

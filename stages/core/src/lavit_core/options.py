"""Command-line options that every command spells the same way."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of settings.", show_default=False)]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeatable.", show_default=False),
]
Preset = Annotated[str, typer.Option("--preset", help="Shipped settings to start from.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random draw.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
Model = Annotated[Path, typer.Option("--model", help="Model directory.", show_default=False)]
ModelOrDefault = Annotated[
    Path | None,
    typer.Option(
        "--model", help="Model directory (default: $LAVIT_MODEL, else the newest under ./runs).", show_default=False
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Precision = Annotated[str, typer.Option("--precision", help="Of large weights: auto (as stored), fp32 or bf16.")]
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

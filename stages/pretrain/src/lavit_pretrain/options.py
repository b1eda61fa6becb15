"""Options that only the pretrain stage's commands have."""

from pathlib import Path
from typing import Annotated

import typer

Tokens = Annotated[list[Path] | None, typer.Argument(help="Token directories.", show_default=False)]
ImageInputOption = Annotated[
    str | None, typer.Option("--image-input", help="codes, features, live or none (blind).", show_default=False)
]
Llm = Annotated[Path | None, typer.Option("--llm", help="Language model to start from.", show_default=False)]
Questions = Annotated[
    list[Path] | None,
    typer.Option("--questions", metavar="FILE", help="Questions and answers; repeatable.", show_default=False),
]
Text = Annotated[
    list[Path] | None, typer.Option("--text", metavar="FILE", help="Text alone; repeatable.", show_default=False)
]
LiveImages = Annotated[Path | None, typer.Option("--data", help="Images, for live input.", show_default=False)]
Prompts = Annotated[list[str], typer.Argument(help="What to draw; several are drawn side by side.", show_default=False)]
NumImages = Annotated[int, typer.Option("--num-images", min=1, help="Images of each prompt.")]
Guidance = Annotated[float | None, typer.Option("--guidance-scale", help="1 turns guidance off.", show_default=False)]

"""Options that only the pretrain stage's commands have."""

from pathlib import Path
from typing import Annotated

import typer
from lavit_core.options import argument, option

Tokens = Annotated[list[Path] | None, argument(help="Token directories, or a YAML list of them with weights.")]
ImageInputOption = Annotated[str | None, option("--image-input", help="codes, features, live or none (blind).")]
Llm = Annotated[Path | None, option("--llm", help="Language model to start from.")]
Questions = Annotated[
    list[Path] | None,
    option("--questions", metavar="DATA", help="questions.jsonl or a data set with questions; repeatable."),
]
Text = Annotated[
    list[Path] | None, option("--text", metavar="FILE", help="Text, or texts with images between (.jsonl); repeatable.")
]
LiveImages = Annotated[Path | None, option("--data", help="Images, for live input.")]
Prompts = Annotated[list[str], argument(help="What to draw; several are drawn side by side.")]
NumImages = Annotated[int, typer.Option("--num-images", min=1, help="Images of each prompt.")]
Guidance = Annotated[float | None, option("--guidance-scale", help="1 turns guidance off.")]

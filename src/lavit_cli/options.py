"""Options that only the host's commands have."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Data = Annotated[Path | None, typer.Option(help="Your pictures (default: drawn shapes).", show_default=False)]
Prompt = Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="What to draw.", show_default=False)]
PromptImage = Annotated[
    list[Path] | None,
    typer.Option(
        "--prompt-image", help="A picture in the prompt; repeatable, read where it stands.", show_default=False
    ),
]
PromptImages = Annotated[
    str | None,
    typer.Option("--prompt-images-as", help="codes, bare (codes without [IMG]) or continuous.", show_default=False),
]
NumImages = Annotated[int, typer.Option(min=1, help="How many; several make a grid.")]
Guidance = Annotated[float | None, typer.Option(help="Pull of the prompt on the codes.")]
DecoderGuidance = Annotated[float | None, typer.Option(help="Pull of the codes on the pixels.")]
TopK = Annotated[int | None, typer.Option(help="Draw each code from the k likeliest.")]
Temperature = Annotated[float | None, typer.Option(help="Below 1: closer to the likeliest.")]
NumSteps = Annotated[int | None, typer.Option(help="Steps of the diffusion sampler.")]
HighresOrNot = Annotated[
    bool | None,
    typer.Option(
        "--highres/--no-highres",
        help="Draw with detokenizer-highres/ (imported weights: SDXL), or not; the preset says.",
        show_default=False,
    ),
]
BestOf = Annotated[
    int | None, typer.Option("--best-of", min=1, help="Candidates a picture; one is kept.", show_default=False)
]
BestBy = Annotated[
    Literal["clip", "reading"] | None,
    typer.Option(
        "--best-by",
        help="Who keeps one: a CLIP, or the model itself, reading its pictures back (tiny, base).",
        show_default=False,
    ),
]
Clip = Annotated[
    Path | None, typer.Option("--clip", help="CLIP that keeps one: its transformers directory.", show_default=False)
]
SafetyChecker = Annotated[
    Path | None,
    typer.Option(
        "--safety-checker", help="StableDiffusionSafetyChecker's directory; what it flags is black.", show_default=False
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="Longest text in tokens.", show_default=False)
]
ImageFiles = Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)]
ImageFile = Annotated[Path, typer.Argument(help="Image file.", show_default=False)]
Question = Annotated[list[str], typer.Argument(help="What to ask about it.", show_default=False)]

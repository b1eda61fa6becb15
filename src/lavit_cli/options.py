"""Options that only the host's commands have."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer
from lavit_core.command import Renamed

PROMPT, CHOOSING, SETTINGS = "Images in the prompt", "Choosing among candidates", "Settings"
"""Panels of the help."""

Data = Annotated[
    Path | None, typer.Option("--data", help="Your images (default: rendered shapes).", show_default=False)
]
NumTrainingImages = Annotated[
    int | None, typer.Option("--images", help="Training images to render (without --data).", show_default=False)
]
StopAfter = Annotated[str | None, typer.Option("--stop-after", help="End after this step.", show_default=False)]
PromptText = Annotated[
    list[str] | None,
    typer.Argument(metavar="PROMPT", help="What to draw; <image> stands for an --image.", show_default=False),
]
ImageOut = Annotated[
    Path | None,
    typer.Option("--out", help="PNG, JPEG or WEBP file (default: a new PNG here).", show_default=False),
]
SafetyChecker = Annotated[
    Path | None,
    typer.Option(
        "--safety-checker", help="Folder of a diffusers safety checker; flagged images are black.", show_default=False
    ),
]
NumImages = Annotated[
    int, typer.Option("--num-images", min=1, help="How many; several make a grid.", rich_help_panel=SETTINGS)
]
HighresOrNot = Annotated[
    bool | None,
    typer.Option(
        "--highres/--no-highres",
        help="Draw with detokenizer-highres/ (imported weights: SDXL), or not.",
        show_default=False,
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="Longest text in tokens.", show_default=False)
]
ImageFiles = Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.", show_default=False)]
ImageFile = Annotated[Path, typer.Argument(metavar="IMAGE", help="Image file.", show_default=False)]
Question = Annotated[list[str], typer.Argument(metavar="QUESTION", help="What to ask about it.", show_default=False)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptImages:
    """Images in a prompt."""

    image: Annotated[
        list[Path] | None,
        typer.Option(
            "--image",
            metavar="FILE",
            help="Image of the next <image>; repeatable.",
            rich_help_panel=PROMPT,
            show_default=False,
        ),
    ] = None
    prompt_image: Annotated[list[str] | None, typer.Option("--prompt-image", hidden=True)] = None
    image_prompt_format: Annotated[
        str | None,
        typer.Option(
            "--image-prompt-format",
            help="codes, bare (codes without [IMG]) or continuous.",
            rich_help_panel=PROMPT,
            show_default=False,
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reranking:
    """Candidates, and how one is chosen."""

    best_of: Annotated[
        int | None,
        typer.Option(
            "--best-of",
            min=1,
            help="Candidates of each image; one is kept.",
            rich_help_panel=CHOOSING,
            show_default=False,
        ),
    ] = None
    rerank_by: Annotated[
        Literal["clip", "likelihood"] | None,
        typer.Option(
            "--rerank-by",
            help="A CLIP model, or the model's own likelihood.",
            rich_help_panel=CHOOSING,
            show_default=False,
        ),
    ] = None
    rerank_clip_model: Annotated[
        Path | None,
        typer.Option(
            "--rerank-clip-model",
            help="The CLIP's transformers directory.",
            rich_help_panel=CHOOSING,
            show_default=False,
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the language model draws codes."""

    guidance_scale: Annotated[
        float | None,
        typer.Option(
            "--guidance-scale", help="Pull of the prompt on the codes.", rich_help_panel=SETTINGS, show_default=False
        ),
    ] = None
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k", help="Draw each code from the k most likely.", rich_help_panel=SETTINGS, show_default=False
        ),
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", help="Below 1: closer to the most likely.", rich_help_panel=SETTINGS, show_default=False
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """How the detokenizer draws pixels."""

    decoder_guidance_scale: Annotated[
        float | None,
        typer.Option(
            "--decoder-guidance-scale",
            help="Pull of the codes on the pixels.",
            rich_help_panel=SETTINGS,
            show_default=False,
        ),
    ] = None
    num_steps: Annotated[
        int | None,
        typer.Option(
            "--num-steps", help="Steps of the diffusion sampler.", rich_help_panel=SETTINGS, show_default=False
        ),
    ] = None
    aspect_ratio: Annotated[
        str | None,
        typer.Option(
            "--aspect-ratio",
            metavar="W:H",
            help="1:1, 4:3, 3:2, 16:9, 2:3 or 3:4 (SDXL only).",
            rich_help_panel=SETTINGS,
            show_default=False,
        ),
    ] = None


OLD_NAMES = (
    Renamed("--best-by", "--rerank-by", {"reading": "likelihood"}),
    Renamed("--clip", "--rerank-clip-model"),
    Renamed("--prompt-images-as", "--image-prompt-format"),
)
"""Earlier names of options of `generate`."""

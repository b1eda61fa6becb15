"""Options that only the host's commands have."""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Literal

import typer
from lavit_core.command import Renamed
from lavit_core.options import argument, option

_prompt = functools.partial(option, rich_help_panel="Images in the prompt")
_choosing = functools.partial(option, rich_help_panel="Choosing among candidates")
_setting = functools.partial(option, rich_help_panel="Settings")

Data = Annotated[Path | None, option("--data", help="Your images (default: rendered shapes).")]
NumTrainingImages = Annotated[int | None, option("--images", help="Training images to render (without --data).")]
StopAfter = Annotated[str | None, option("--stop-after", help="End after this step.")]
PromptText = Annotated[
    list[str] | None, argument(metavar="PROMPT", help="What to draw; <image> stands for an --image.")
]
ImageOut = Annotated[Path | None, option("--out", help="PNG, JPEG or WEBP file (default: a new PNG here).")]
SafetyChecker = Annotated[
    Path | None, option("--safety-checker", help="Folder of a diffusers safety checker; flagged images are black.")
]
NumImages = Annotated[int, _setting("--num-images", min=1, help="How many; several make a grid.", show_default=True)]
HighresOrNot = Annotated[
    bool | None,
    option("--highres/--no-highres", help="Draw with detokenizer-highres/ (imported weights: SDXL), or not."),
]
MaxTokens = Annotated[int | None, option("--max-tokens", min=1, help="Longest text in tokens.")]
ImageFiles = Annotated[list[Path], argument(metavar="IMAGE", help="Image files.")]
ImageFile = Annotated[Path, argument(metavar="IMAGE", help="Image file.")]
MoreImages = Annotated[
    list[Path] | None,
    option("--image", metavar="FILE", help="A further image; <image> in QUESTION stands for each in turn."),
]
EarlierTurns = Annotated[
    list[str] | None,
    option("--earlier", metavar="QUESTION=ANSWER", help="What was asked and answered before; repeatable."),
]
Conversation = Annotated[
    bool, typer.Option("--conversation", help="Ask each question after the ones before it and their answers.")
]
Chat = Annotated[
    bool, typer.Option("--chat", help="Ask by the language model's own chat template, if it was trained so.")
]
Question = Annotated[list[str], argument(metavar="QUESTION", help="What to ask about it.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptImages:
    """Images in a prompt."""

    image: Annotated[
        list[Path] | None, _prompt("--image", metavar="FILE", help="Image of the next <image>; repeatable.")
    ] = None
    prompt_image: Annotated[list[str] | None, typer.Option("--prompt-image", hidden=True)] = None
    image_prompt_format: Annotated[
        str | None, _prompt("--image-prompt-format", help="codes, bare (codes without [IMG]) or continuous.")
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reranking:
    """Candidates, and how one is chosen."""

    best_of: Annotated[int | None, _choosing("--best-of", min=1, help="Candidates of each image; one is kept.")] = None
    rerank_by: Annotated[
        Literal["clip", "likelihood"] | None,
        _choosing("--rerank-by", help="A CLIP model, or the model's own likelihood."),
    ] = None
    rerank_clip_model: Annotated[
        Path | None, _choosing("--rerank-clip-model", help="The CLIP's transformers directory.")
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the language model draws codes."""

    guidance_scale: Annotated[float | None, _setting("--guidance-scale", help="Pull of the prompt on the codes.")] = (
        None
    )
    top_k: Annotated[int | None, _setting("--top-k", help="Draw each code from the k most likely.")] = None
    temperature: Annotated[float | None, _setting("--temperature", help="Below 1: closer to the most likely.")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """How the detokenizer draws pixels."""

    decoder_guidance_scale: Annotated[
        float | None, _setting("--decoder-guidance-scale", help="Pull of the codes on the pixels.")
    ] = None
    num_steps: Annotated[int | None, _setting("--num-steps", help="Steps of the diffusion sampler.")] = None
    aspect_ratio: Annotated[
        str | None, _setting("--aspect-ratio", metavar="W:H", help="1:1, 4:3, 3:2, 16:9, 2:3 or 3:4 (SDXL only).")
    ] = None
    size: Annotated[
        str | None, _setting("--size", metavar="WxH", help="Width and height in pixels, of those trained.")
    ] = None


OLD_NAMES = (
    Renamed("--best-by", "--rerank-by", {"reading": "likelihood"}),
    Renamed("--clip", "--rerank-clip-model"),
    Renamed("--prompt-images-as", "--image-prompt-format"),
)
"""Earlier names of options of `generate`."""

"""`lavit generate`: prompt -> codes -> features -> pixels, into an image that records how it was made."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lavit import LaVIT
from lavit.reranking import candidate_seeds
from lavit_core.shown_images import enlarge, enlargement, grid_px, in_grid

from lavit_cli.generate_settings import GenerateSettings
from lavit_cli.image_files import check_image_size, save_image
from lavit_cli.prompts import prompt_record, prompt_text
from lavit_cli.reranking import Reranker, load_reranker, rerank

CELL_PX = 128
"""The shorter side of an image in a grid has at least this many pixels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Painter:
    """A model that draws prompts, each as the settings say."""

    lavit: LaVIT
    settings: GenerateSettings
    reranker: Reranker
    precision: str


def open_painter(
    model: Path,
    settings: GenerateSettings,
    *,
    clip: Path | None = None,
    safety_checker: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    low_memory: bool = True,
) -> Painter:
    """Open a model directory with what chooses among candidates; `low_memory` holds one part of the model at a time.

    Raises InputError if the model lacks a part or its parts were made with another tokenizer, UsageError for an aspect
    ratio that the detokenizer does not draw.
    """
    lavit = LaVIT.from_pretrained(
        model,
        parts=("tokenizer", "llm", "detokenizer"),
        device=device,
        precision=precision,
        low_memory=low_memory,
        highres=settings.highres,
    )
    lavit.draw_size(settings.draw)  # a shape that can't be drawn is refused before anything is loaded
    # Loaded first: a directory that holds no CLIP is found out now, not after the last image.
    reader = lavit if settings.best_of > 1 and settings.rerank_by == "likelihood" else None
    reranker = load_reranker(reader, clip, safety_checker, device=device)
    return Painter(lavit=lavit, settings=settings, reranker=reranker, precision=precision)


def generate(
    painter: Painter, prompt: Sequence[str | Path], out: Path, *, num_images: int = 1, seed: int = 0
) -> dict[str, Any]:
    """Draw `num_images` images of a prompt (texts and image files in their order) into one file; image i is the one
    that `--seed SEED+i` draws alone. Return its metadata.

    Raises InputError for an unreadable image, and for more images than the format of `out` holds.
    """
    lavit, settings = painter.lavit, painter.settings
    check_fits(lavit, settings, out, num_images)
    seeds = candidate_seeds(range(seed, seed + num_images), settings.best_of)
    codes = lavit.sample([list(prompt)] * len(seeds), seeds, settings.sample)
    pixels = np.stack([np.asarray(image) for image in lavit.decode(codes, seeds, settings.draw)])
    kept, chosen = rerank(painter.reranker, pixels, seeds, prompt_text(prompt), settings.best_of)
    made = {
        "prompt": prompt_record(prompt),
        "seed": seed,
        "num_images": num_images,
        "model": lavit.metadata["model"],
        "generate": settings.model_dump(mode="json", exclude={"sample", "draw"}),
        "sample": settings.sample.model_dump(mode="json"),
        "draw": settings.draw.model_dump(mode="json"),
        "precision": painter.precision,
        **chosen,
    }
    image = pixels[kept[0]] if num_images == 1 else in_grid([enlarge(pixels[one], CELL_PX) for one in kept])
    save_image(out, image, made)
    num_codes = [len(codes[one]) for one in kept]
    return {"out": str(out), **made, "size_px": list(pixels.shape[1:3]), "num_codes": num_codes}


def check_fits(lavit: LaVIT, settings: GenerateSettings, out: Path, num_images: int) -> None:
    """Check, before anything is drawn, that the model draws the size and the format of `out` holds the images.

    Raises UsageError and InputError if not.
    """
    high, wide = lavit.draw_size(settings.draw)
    factor = enlargement((high, wide), CELL_PX)
    cell = (high * factor, wide * factor)
    check_image_size(out, (high, wide) if num_images == 1 else grid_px(num_images, cell))


def lines(made: dict[str, Any]) -> list[str]:
    """Return what the command prints of `generate`'s result."""
    said = [_candidate_line(candidate) for candidate in made.get("candidates", [])]
    if any(made.get("flagged", [])):
        said.append(f"{sum(made['flagged'])} of {made['num_images']} image(s) flagged by the safety checker: black")
    number, seed, (high, wide) = made["num_images"], made["seed"], made["size_px"]
    images = "1 image" if number == 1 else f"{number} images"
    drawn = f"{made['out']}: {images} of {wide}x{high} pixels, {sum(made['num_codes'])} codes"
    seeds = f"seed {seed}" if number == 1 else f"seeds {seed} to {seed + number - 1}"
    grid = ", --num-images 9 a grid" if number == 1 else ""
    following = f"{seeds}; --seed {seed + number} draws another{grid}"
    result = f"same as {made['same_as']}" if "same_as" in made else drawn
    return [*said, f"{result}; {following}"]


def _candidate_line(candidate: dict[str, Any]) -> str:
    score = (
        f"CLIP similarity {candidate['clip_similarity']:.4f}"
        if "clip_similarity" in candidate
        else f"log-likelihood of the prompt {candidate['log_likelihood']:.2f}"
    )
    return f"seed {candidate['seed']}: {score}{', kept' if candidate['kept'] else ''}"

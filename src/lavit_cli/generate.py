"""`lavit generate`: prompt -> codes -> features -> pixels, in one process, into a PNG that records how it was made."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit import LaVIT
from lavit_core.errors import InputError, UsageError
from lavit_core.files import file_sha256
from lavit_core.modeldir import check_made_with, detokenizer_part
from lavit_core.seeds import candidate_seeds

from lavit_cli import __version__
from lavit_cli.generate_settings import GenerateSettings, check_best_of
from lavit_cli.images import enlarge, in_grid, require_png, save_png
from lavit_cli.reranking import load_reranker, rerank

if TYPE_CHECKING:
    from lavit import DrawSettings, SampleSettings


def generate(
    prompt: str | Sequence[str | Path],
    model: Path,
    out: Path,
    settings: GenerateSettings,
    sampling: "SampleSettings",
    drawing: "DrawSettings",
    *,
    num_images: int = 1,
    clip: Path | None = None,
    safety_checker: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
) -> dict[str, Any]:
    """Draw `num_images` images of a prompt (texts and image files in their order) into one PNG; image i is the one that
    `--seed SEED+i` draws alone.

    Raises InputError if the model lacks a part, its parts were made with another tokenizer, or an image is missing;
    UsageError for an empty prompt, an aspect ratio that the detokenizer does not draw, or best-of without CLIP or text.
    """
    require_png(out)
    pieces = [prompt] if isinstance(prompt, str) else list(prompt)
    described = describe(pieces)
    text = " ".join(piece for piece in pieces if isinstance(piece, str))
    check_best_of(settings, clip, text)
    lavit = LaVIT.from_pretrained(
        model,
        parts=("tokenizer", "llm", "detokenizer"),
        device=device,
        precision=precision,
        low_memory=True,
        highres=settings.highres,
    )
    for part in ("llm", detokenizer_part(highres=settings.highres)):
        check_made_with(model, part)
    # Loaded first: a directory that holds no CLIP is found out now, not after the last image.
    reader = lavit if settings.best_of > 1 and settings.best_by == "reading" else None
    reranker = load_reranker(reader, clip, safety_checker, device=device)
    seeds = [own for index in range(num_images) for own in candidate_seeds(seed + index, settings.best_of)]
    *_, last = lavit.generate_steps([pieces] * len(seeds), seeds, sampling=sampling, drawing=drawing)
    pixels, codes = np.stack([np.asarray(image) for image in last.images or []]), last.read_codes()
    kept, chosen = rerank(reranker, pixels, seeds, text, settings.best_of)
    made = {
        "prompt": described,
        "seed": seed,
        "num_images": num_images,
        "model": lavit.metadata["model"],
        "generate": settings.model_dump(mode="json"),
        "sample": sampling.model_dump(mode="json"),
        "draw": drawing.model_dump(mode="json"),
        "precision": precision,
        **chosen,
    }
    chunks = {name: value if isinstance(value, str) else json.dumps(value) for name, value in made.items()}
    image = pixels[kept[0]] if num_images == 1 else in_grid([enlarge(pixels[one], 128) for one in kept])
    save_png(out, image, {**chunks, "Software": f"lavit {__version__}"})
    num_codes = [len(codes[one]) for one in kept]
    return {"out": str(out), **made, "size_px": list(pixels.shape[1:3]), "num_codes": num_codes}


def describe(prompt: Sequence[str | Path]) -> str | list[dict[str, str]]:
    """Return a prompt for the metadata: a text alone as it is, else its parts, images with their digests.

    Raises UsageError for an empty prompt or two texts in a row, InputError for an image that is not there.
    """
    if not prompt:
        raise UsageError("no prompt: give a text, --prompt-image FILE, or both")
    for first, second in pairwise(prompt):
        if isinstance(first, str) and isinstance(second, str):
            raise UsageError(f"two texts in a row, {first!r} and {second!r}; put the words of a text in quotes")
    for part in prompt:
        if isinstance(part, Path) and not part.is_file():
            found = "a folder, expected a picture" if part.is_dir() else "file not found"
            raise InputError(f"--prompt-image {part}: {found}")
    if len(prompt) == 1 and isinstance(prompt[0], str):
        return prompt[0]
    return [
        {"text": part} if isinstance(part, str) else {"image": str(part), "sha256": file_sha256(part)}
        for part in prompt
    ]


def lines(made: dict[str, Any]) -> str:
    """Return what the command prints of `generate`'s result."""
    said = [_said_of(candidate) for candidate in made.get("candidates", [])]
    if any(made.get("flagged", [])):
        said.append(f"{sum(made['flagged'])} of {made['num_images']} picture(s) flagged by the safety checker: black")
    count = f"{made['out']}: {made['num_images']} picture(s), {sum(made['num_codes'])} codes"
    return "\n".join([*said, f"{count}; next: try --num-images 9"])


def _said_of(candidate: dict[str, Any]) -> str:
    fit = (
        f"CLIP similarity {candidate['clip_similarity']:.4f}"
        if "clip_similarity" in candidate
        else f"log-likelihood of the prompt {candidate['log_likelihood']:.2f}"
    )
    return f"seed {candidate['seed']}: {fit}{', kept' if candidate['kept'] else ''}"

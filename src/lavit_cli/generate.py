"""`lavit generate`: prompt -> codes -> features -> pixels, in one process, into a PNG that records how it was made."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.distributions import require_stages
from lavit_core.errors import InputError, UsageError
from lavit_core.files import file_sha256
from lavit_core.modeldir import check_made_with, detokenizer_part, find_part, part_digest
from lavit_core.seeds import candidate_seeds

from lavit_cli import __version__
from lavit_cli.choosing import Judge, judge_with
from lavit_cli.drawing import draw_prompts, draw_settings, require_png, sample_settings
from lavit_cli.generate_settings import BestBy, generate_settings
from lavit_cli.pictures import enlarge, in_grid, save_png


def generate(
    prompt: str | Sequence[str | Path],
    model: Path,
    out: Path,
    *,
    prompt_images: str | None = None,
    num_images: int = 1,
    aspect_ratio: str | None = None,
    highres: bool | None = None,
    best_of: int | None = None,
    best_by: BestBy | None = None,
    clip: Path | None = None,
    safety_checker: Path | None = None,
    preset: str = "tiny",
    guidance_scale: float | None = None,
    decoder_guidance_scale: float | None = None,
    top_k: int | None = None,
    temperature: float | None = None,
    num_steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
) -> dict[str, Any]:
    """Draw `num_images` pictures of a prompt (texts and picture files in their order) into one PNG; picture i is the
    one that `--seed SEED+i` draws alone.

    Raises InputError when the model lacks a part, its parts were made with another tokenizer, or a picture is missing;
    UsageError for a prompt that is none, an aspect ratio that the detokenizer does not draw, or best-of without CLIP.
    """
    require_png(out)
    pieces = [prompt] if isinstance(prompt, str) else list(prompt)
    described = describe(pieces)
    text = " ".join(piece for piece in pieces if isinstance(piece, str))
    settings = generate_settings(preset, highres=highres, best_of=best_of, best_by=best_by, clip=clip, text=text)
    drawer = detokenizer_part(highres=settings.highres)
    parts = ("tokenizer", "llm", drawer)
    digests = {part: part_digest(find_part(model, part)) for part in parts}
    for part in ("llm", drawer):
        check_made_with(model, part)
    with require_stages("lavit generate"):
        sampling = sample_settings(
            preset,
            guidance_scale=guidance_scale,
            prompt_images=prompt_images,
            top_k=top_k,
            temperature=temperature,
        )
        drawing = draw_settings(
            preset, guidance_scale=decoder_guidance_scale, num_steps=num_steps, aspect_ratio=aspect_ratio
        )
        # Loaded first: a directory that is none is found out now, not after the last picture.
        reader = model if settings.best_of > 1 and settings.best_by == "reading" else None
        judge = judge_with(clip, reader, safety_checker, device=device, precision=precision)
        seeds = [one for index in range(num_images) for one in candidate_seeds(seed + index, settings.best_of)]
        pixels, codes = draw_prompts(
            model,
            [pieces] * len(seeds),
            part=drawer,
            seeds=seeds,
            sampling=sampling,
            drawing=drawing,
            device=device,
            precision=precision,
        )
        kept, about = choose(judge, pixels, seeds, text, settings.best_of)
    made = {
        "prompt": described,
        "seed": seed,
        "num_images": num_images,
        "model": digests,
        "generate": settings.model_dump(mode="json"),
        "sample": sampling.model_dump(mode="json"),
        "draw": drawing.model_dump(mode="json"),
        "precision": precision,
        **about,
    }
    chunks = {name: value if isinstance(value, str) else json.dumps(value) for name, value in made.items()}
    picture = pixels[kept[0]] if num_images == 1 else in_grid([enlarge(pixels[one], 128) for one in kept])
    save_png(out, picture, {**chunks, "Software": f"lavit {__version__}"})
    num_codes = [len(codes[one]) for one in kept]
    return {"out": str(out), **made, "size_px": list(pixels.shape[1:3]), "num_codes": num_codes}


def choose(
    judge: Judge, pixels: np.ndarray, seeds: Sequence[int], text: str, best_of: int
) -> tuple[list[int], dict[str, Any]]:
    """Blacken what is flagged, and return the rows to keep, one of every `best_of`, and what the PNG says of both."""
    about: dict[str, Any] = {}
    flagged = np.zeros(len(pixels), dtype=bool) if judge.flagged is None else judge.flagged(pixels)
    pixels[flagged] = 0
    kept = np.arange(0, len(pixels), best_of)
    if judge.fits is not None:
        fits = judge.fits(pixels, [text] * len(pixels))
        kept = kept + fits.reshape(-1, best_of).argmax(1)
        about["candidates"] = [
            {"seed": own, judge.fit_name: round(float(fit), 6), "kept": place in kept}
            for place, (own, fit) in enumerate(zip(seeds, fits, strict=True))
        ]
    if judge.flagged is not None:
        about["flagged"] = flagged[kept].tolist()
    return kept.tolist(), {**about, **judge.about}


def describe(prompt: Sequence[str | Path]) -> str | list[dict[str, str]]:
    """Return what the PNG says of a prompt: a text alone as it is, else its parts, pictures with their digests.

    Raises UsageError for an empty prompt or two texts in a row, InputError for a picture that is not there.
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

"""From codes to pixels with a model directory's own parts: what generate and reconstruct share."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit_core.config import load_preset, resolve
from lavit_core.errors import InputError
from lavit_core.files import check_out_file

if TYPE_CHECKING:
    from lavit_detokenizer.api import DrawSettings
    from lavit_pretrain.api import PicturePrompt, SampleSettings

BATCH = 16
"""Prompts continued at once; a picture depends on its own seed only, whatever the number."""


def sample_settings(preset: str, **given: Any) -> "SampleSettings":
    """Return how codes are drawn: the preset of `lavit sample`, with the values given (None: not given).

    A guidance scale that is given holds for prompts with images too.
    """
    from lavit_pretrain.config import SampleSettings

    given["image_guidance_scale"] = given.get("guidance_scale")
    return resolve(SampleSettings, preset=load_preset("lavit_pretrain", "sample", preset), flags=given)


def draw_settings(preset: str, **given: Any) -> "DrawSettings":
    """Return how pixels are drawn: the preset of `lavit detokenize`, with the values given (None: not given)."""
    from lavit_detokenizer.config import DrawSettings

    return resolve(DrawSettings, preset=load_preset("lavit_detokenizer", "detokenize", preset), flags=given)


def draw_prompts(
    model: Path,
    prompts: Sequence["PicturePrompt"],
    *,
    part: str,
    seeds: Sequence[int],
    sampling: "SampleSettings",
    drawing: "DrawSettings",
    device: str = "auto",
    precision: str = "auto",
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return uint8 pictures [N, h, w, 3] and codes of N prompts (texts, picture files, pixels uint8 [h, w, 3] in any
    mix), drawn by the detokenizer `part`; a picture depends on its own prompt and seed.

    Raises InputError for an unreadable picture or an unfit model, UsageError for a model that cannot see, or an
    aspect ratio that it does not draw.
    """
    from lavit_detokenizer.api import draw_codes, load_detokenizer, model_picture_size
    from lavit_pretrain.api import load_llm, read_prompts, sample_codes
    from lavit_tokenizer.api import load_tokenizer

    model_picture_size(model, part, drawing.aspect_ratio)  # refused before anything is loaded
    llm = load_llm(model, device=device, precision=precision)
    shown = any(not isinstance(piece, str) for prompt in prompts for piece in prompt)
    eyes = load_tokenizer(model, device=device, use="encode") if shown else None
    read = read_prompts(llm, eyes, prompts, sampling.prompt_images)
    codes = sample_codes(llm, read, seeds=seeds, settings=sampling, batch_size=BATCH)
    del llm, eyes  # at the published size what draws takes its place in memory
    gc.collect()
    tokenizer = load_tokenizer(model, device=device, use="decode")
    detokenizer = load_detokenizer(model, part=part, device=device, precision=precision)
    return draw_codes(detokenizer, tokenizer, codes, seeds=seeds, settings=drawing), codes


def require_png(out: Path) -> None:
    """Refuse a name that no PNG can be written to before any work is done. Raises InputError."""
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: expected a file name that ends in .png")
    check_out_file(out)

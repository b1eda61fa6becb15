"""The model that draws: prompts of texts and pictures -> pictures, with the settings of the stages that do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.modeldir import check_made_with, detokenizer_part, find_part

from lavit_evaluation.model_digests import model_digests
from lavit_evaluation.running.drawing import Draw
from lavit_evaluation.running.reader import stages_for

PAINTER_FILE = "painter.json"
"""How the model draws: known while it is loaded, needed once every picture is there."""

DrawPrompt = str | Sequence[str | Path | np.ndarray]
"""A text, or texts and pictures (files, pixels uint8 [h, w, 3], codes int [n]) in the order they are read."""


@dataclass(frozen=True, kw_only=True)
class Painter:
    """A model as a function on prompts."""

    draw: Draw[DrawPrompt]
    about: dict[str, Any]
    """How it draws, for score.json."""


def check_painter(model: Path, *, highres: bool = False) -> dict[str, str]:
    """Return the digests of the parts that draw. Raises InputError when one is missing or made with another tokenizer.

    Takes no torch: a benchmark asks before it reads anything else.
    """
    parts = ("tokenizer", "llm", detokenizer_part(highres=highres))
    for part in parts:
        find_part(model, part)
    for part in parts[1:]:
        check_made_with(model, part)
    return {f"model.{part}": digest for part, digest in model_digests(model).items() if part in parts}


def load_painter(
    model: Path, *, sampling: Mapping[str, Any], drawing: Mapping[str, Any], highres: bool = False,
    device: str = "auto", precision: str = "auto",
) -> Painter:  # fmt: skip
    """Load every part that draws; `sampling` are settings of `lavit sample`, `drawing` of `lavit detokenize`.

    Raises InputError when a part or a stage is missing, UsageError for settings that are none.
    """
    with stages_for(model):
        from lavit_core.config import resolve
        from lavit_detokenizer.api import DrawSettings, draw_codes, load_detokenizer
        from lavit_pretrain.api import SampleSettings, load_llm, read_prompts, sample_codes
        from lavit_tokenizer.api import load_tokenizer

    codes_settings = resolve(SampleSettings, flags=sampling)
    pixel_settings = resolve(DrawSettings, flags=drawing)
    tokenizer, llm = load_tokenizer(model, device=device), load_llm(model, device=device, precision=precision)
    part = detokenizer_part(highres=highres)
    detokenizer = load_detokenizer(model, part=part, device=device, precision=precision)

    def draw(prompts: Sequence[DrawPrompt], seeds: Sequence[int]) -> np.ndarray:
        read = read_prompts(llm, tokenizer, prompts, codes_settings.prompt_images)
        codes = sample_codes(llm, read, seeds=seeds, settings=codes_settings, batch_size=max(1, len(prompts)))
        return draw_codes(detokenizer, tokenizer, codes, seeds=seeds, settings=pixel_settings)

    about = {
        "sample": codes_settings.model_dump(mode="json"),
        "draw": pixel_settings.model_dump(mode="json", exclude={"batch_size"}),
        "precision": {"llm": llm.precision, "detokenizer": detokenizer.precision},
        "image_px": detokenizer.config.image_px,
    }
    return Painter(draw=draw, about=about)

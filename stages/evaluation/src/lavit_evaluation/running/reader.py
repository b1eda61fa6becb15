"""The model that answers."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from lavit_core.errors import InputError
from lavit_core.modeldir import find_part


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A model as functions on numpy arrays."""

    image_px: int
    """Side of the pictures it reads."""
    answer: Callable[[np.ndarray, Sequence[int], Sequence[str]], list[str]]
    """Pictures uint8 [B, px, px, 3], the picture of each question, questions -> answers."""
    caption: Callable[[np.ndarray], list[str]]
    """Pictures -> captions."""
    about: dict[str, Any]
    """How it decodes, for generation.json."""


def load_reader(model: Path, kind: str, *, decoding: str, max_tokens: int, device: str) -> Reader:
    """Load tokenizer and language model; `kind` is vqa or caption, `decoding` greedy or beams (the release's).

    Raises InputError when a part or a distribution is missing.
    """
    api = pretrain_api(model)
    from lavit_tokenizer.api import load_tokenizer

    tokenizer, llm = load_tokenizer(model, device=device, use="encode"), api.load_llm(model, device=device)
    beams, said = None, f"greedy, at most {max_tokens} tokens"
    if decoding == "beams":
        released = api.CAPTIONS if kind == "caption" else api.ANSWERS
        beams = replace(released, min_tokens=min(released.min_tokens, max_tokens))
        said = f"{beams.num_beams} beams, {beams.min_tokens} to {max_tokens} tokens"
        said += f", length penalty {beams.length_penalty:g}"

    def answers(pixels: np.ndarray, pictures: Sequence[int], questions: Sequence[str]) -> list[str]:
        images = api.encode_images(llm, tokenizer, pixels).take(pictures)
        return api.answer(llm, images, questions, max_tokens=max_tokens, beams=beams)

    def captions(pixels: np.ndarray) -> list[str]:
        return api.caption(llm, api.encode_images(llm, tokenizer, pixels), max_tokens=max_tokens, beams=beams)

    about = {"decoding": said, "image_input": llm.image_input, "precision": llm.precision}
    return Reader(image_px=tokenizer.config.preprocessing.image_px, answer=answers, caption=captions, about=about)


def pretrain_api(model: Path) -> ModuleType:
    """Return the language model's stage. Raises InputError when `model` lacks a part, or the stage is not installed."""
    find_part(model, "tokenizer")
    find_part(model, "llm")
    with stages_for(model):
        from lavit_pretrain import api
    return api


@contextlib.contextmanager
def stages_for(model: Path) -> Iterator[None]:
    """Turn the import of a stage that is not installed into the line that installs it. Raises InputError."""
    try:
        yield
    except ModuleNotFoundError as error:
        stage = (error.name or "").partition(".")[0]
        if not stage.startswith("lavit_"):
            raise
        raise InputError(
            f"running {model} needs {stage.replace('_', '-')}, which is not installed; "
            "run `pip install -r stages/workspace.txt`"
        ) from None

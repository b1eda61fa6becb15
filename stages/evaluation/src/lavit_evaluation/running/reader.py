"""The model that answers: the only file here that reaches torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


def load_reader(model: Path, *, max_tokens: int, device: str) -> Reader:
    """Load tokenizer and language model. Raises InputError when a part or a distribution is missing."""
    api = pretrain_api(model)
    from lavit_tokenizer.api import load_tokenizer

    tokenizer, llm = load_tokenizer(model, device=device), api.load_llm(model, device=device)

    def answers(pixels: np.ndarray, pictures: Sequence[int], questions: Sequence[str]) -> list[str]:
        return api.answer(llm, api.look(llm, tokenizer, pixels).take(pictures), questions, max_tokens=max_tokens)

    return Reader(
        image_px=tokenizer.config.preprocessing.image_px,
        answer=answers,
        caption=lambda pixels: api.caption(llm, api.look(llm, tokenizer, pixels), max_tokens=max_tokens),
        about={"decoding": f"greedy, at most {max_tokens} tokens", "image_input": llm.image_input, "precision": "fp32"},
    )


def pretrain_api(model: Path) -> ModuleType:
    """Return the language model's stage. Raises InputError when `model` lacks a part, or the stage is not installed."""
    find_part(model, "tokenizer")
    find_part(model, "llm")
    try:
        from lavit_pretrain import api
    except ModuleNotFoundError as error:
        stage = (error.name or "").partition(".")[0]
        if not stage.startswith("lavit_"):
            raise
        raise InputError(
            f"running {model} needs {stage.replace('_', '-')}, which is not installed; "
            "run `pip install -r stages/workspace.txt`"
        ) from None
    return api

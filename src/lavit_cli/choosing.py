"""What looks at drawn pictures before a person does: who chooses among candidates, and a safety checker."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """Functions on pictures uint8 [N, h, w, 3]; None where nobody asked."""

    fits: Callable[[np.ndarray, Sequence[str]], np.ndarray] | None
    """How well each picture fits its text, float [N], more is better."""
    fit_name: str
    """What `fits` gives."""
    flagged: Callable[[np.ndarray], np.ndarray] | None
    """bool [N]"""
    about: dict[str, Any]
    """For the PNG: what they were loaded from."""


def judge_with(
    clip: Path | None, reader: Path | None, safety_checker: Path | None, *, device: str, precision: str
) -> Judge:
    """Load what was asked for; `reader` is a model that reads its pictures back, loaded when there are some.

    Raises InputError for a directory that is none, or a stage that is not installed.
    """
    fits = flagged = None
    about: dict[str, Any] = {}
    if reader is not None:
        fits = _reads_back(reader, device, precision)
    if clip is not None:
        from lavit_evaluation.api import load_clip, similarities

        loaded = load_clip(clip, device)
        about["clip"] = loaded.about

        def fits(pictures: np.ndarray, texts: Sequence[str]) -> np.ndarray:
            return similarities(loaded, list(pictures), texts)

    if safety_checker is not None:
        from lavit_detokenizer.api import load_safety_checker

        flagged = load_safety_checker(safety_checker, device=device)
        about["safety_checker"] = str(safety_checker)
    fit_name = "clip_similarity" if reader is None else "log_likelihood"
    return Judge(fits=fits, fit_name=fit_name, flagged=flagged, about=about)


def _reads_back(model: Path, device: str, precision: str) -> Callable[[np.ndarray, Sequence[str]], np.ndarray]:
    def fits(pictures: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        from lavit_pretrain.api import load_llm, read_back
        from lavit_tokenizer.api import load_tokenizer

        eyes = load_tokenizer(model, device=device, use="encode")
        return read_back(load_llm(model, device=device, precision=precision), eyes, list(pictures), texts)

    return fits

"""What looks at drawn pictures before a person does: a CLIP that chooses among candidates, and a safety checker."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """Functions on pictures uint8 [N, h, w, 3]; None where nobody asked."""

    similarities: Callable[[np.ndarray, Sequence[str]], np.ndarray] | None
    """Cosines float32 [N] of pictures and texts."""
    flagged: Callable[[np.ndarray], np.ndarray] | None
    """bool [N]"""
    about: dict[str, Any]
    """For the PNG: what they were loaded from."""


def judge_with(clip: Path | None, safety_checker: Path | None, *, device: str) -> Judge:
    """Load what was asked for. Raises InputError for a directory that is none, or a stage that is not installed."""
    similar = flagged = None
    about: dict[str, Any] = {}
    if clip is not None:
        from lavit_evaluation.api import load_clip, similarities

        loaded = load_clip(clip, device)
        about["clip"] = loaded.about

        def similar(pictures: np.ndarray, texts: Sequence[str]) -> np.ndarray:
            return similarities(loaded, list(pictures), texts)

    if safety_checker is not None:
        from lavit_detokenizer.api import load_safety_checker

        flagged = load_safety_checker(safety_checker, device=device)
        about["safety_checker"] = str(safety_checker)
    return Judge(similarities=similar, flagged=flagged, about=about)


def candidates_of(seeds: Sequence[int], best_of: int) -> list[int]:
    """Return the seeds of all candidates, those of a picture after one another; its own seed is the first of them."""
    if best_of == 1:
        return list(seeds)
    from lavit_evaluation.api import candidate_seeds

    return [one for seed in seeds for one in candidate_seeds(seed, best_of)]

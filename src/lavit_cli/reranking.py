"""Choosing among images drawn from one prompt, and blackening those that a safety checker flags."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lavit import LaVIT
from lavit.reranking import choose_best

Score = Callable[[np.ndarray, Sequence[str]], np.ndarray]
"""Images uint8 [N, h, w, 3] and one text each -> how well they fit, float [N], more is better."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reranker:
    """Which of a prompt's images is kept."""

    score: Score | None = None
    """None: every image is kept."""
    name: str = ""
    """Name of the score in the image's metadata."""
    flagged: Callable[[np.ndarray], np.ndarray] | None = None
    """Images -> bool [N]: what the safety checker flags."""
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    """For the PNG: what CLIP and safety checker were loaded from."""


def load_reranker(model: LaVIT | None, clip: Path | None, safety_checker: Path | None, *, device: str) -> Reranker:
    """Load CLIP and safety checker where they are given; `model` is the one that reads its own images, if any does.

    Raises InputError if a directory does not hold one, or a distribution is not installed.
    """
    name, score, flagged = "", None, None
    metadata: dict[str, Any] = {}
    if model is not None:
        name, score = "log_likelihood", lambda images, texts: model.score(list(images), texts)
    if clip is not None:
        from lavit_evaluation.api import load_clip, similarities

        loaded = load_clip(clip, device, option="--rerank-clip-model")
        name, score = "clip_similarity", lambda images, texts: similarities(loaded, list(images), texts)
        metadata["clip"] = loaded.metadata
    if safety_checker is not None:
        from lavit_detokenizer.api import load_safety_checker

        flagged = load_safety_checker(safety_checker, device=device)
        metadata["safety_checker"] = str(safety_checker)
    return Reranker(score=score, name=name, flagged=flagged, metadata=metadata)


def rerank(
    reranker: Reranker, pixels: np.ndarray, seeds: Sequence[int], text: str, best_of: int
) -> tuple[list[int], dict[str, Any]]:
    """Blacken flagged images of `pixels` [N, h, w, 3], and return the indices to keep, one of every `best_of`, and the
    metadata of both."""
    metadata: dict[str, Any] = {}
    flagged = np.zeros(len(pixels), dtype=bool) if reranker.flagged is None else reranker.flagged(pixels)
    pixels[flagged] = 0
    kept = np.arange(0, len(pixels), best_of)
    if reranker.score is not None:
        scores = reranker.score(pixels, [text] * len(pixels))
        kept = choose_best(scores, best_of)
        metadata["candidates"] = [
            {"seed": own, reranker.name: round(float(score), 6), "kept": place in kept}
            for place, (own, score) in enumerate(zip(seeds, scores, strict=True))
        ]
    if reranker.flagged is not None:
        metadata["flagged"] = flagged[kept].tolist()
    return kept.tolist(), {**metadata, **reranker.metadata}

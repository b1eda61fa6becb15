"""Images scored from their pixels: real ones, reconstructions, drawings from prompts and from random codes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from lavit_scoring import Estimate
from lavit_scoring.estimate import by_combination, mean
from lavit_shapes.names import MORE_SHAPES, SHAPES
from lavit_shapes.scenes import Scene

from lavit_evaluation.shapes.align import CRITERIA, Verdict, align
from lavit_evaluation.shapes.claims import parse
from lavit_evaluation.shapes.judge import Found, judge


def score_images(
    name: str, pixels: np.ndarray, scenes: Sequence[Scene]
) -> tuple[dict[str, Estimate], list[dict[str, Any]]]:
    """Return `name.<criterion>` for uint8 images [N, H, W, 3] held against their scenes, and one row an image."""
    found = [judge(image, shapes=known_shapes(scenes)) for image in pixels]
    verdicts = [
        align(seen, parse(scene.prompt), image_px=pixels.shape[2]) for seen, scene in zip(found, scenes, strict=True)
    ]
    metrics: dict[str, Estimate] = {}
    for criterion in CRITERIA:
        # A prompt that claims no place can't be judged by place.
        judged = [(verdict, scene) for verdict, scene in zip(verdicts, scenes, strict=True)
                  if getattr(verdict, criterion) is not None]  # fmt: skip
        hits = [getattr(verdict, criterion) for verdict, _ in judged]
        metrics |= by_combination(f"{name}.{criterion}", hits, [scene.combination for _, scene in judged])
    return metrics, [_row(*one) for one in zip(found, verdicts, scenes, strict=True)]


def known_shapes(scenes: Sequence[Scene]) -> Sequence[str]:
    """Return the outlines a judge of these scenes must know: the embedded data's, or all of the larger data's."""
    drawn = {thing.shape for scene in scenes for thing in scene.objects}
    return SHAPES if drawn <= set(SHAPES) else MORE_SHAPES


def centre_errors(rows: Sequence[dict[str, Any]], scenes: Sequence[Scene], scale: float) -> Estimate:
    """Return how far objects stand from their true centre in pixels of the scene, where the colours are right.

    `scale` is pixels of the scene per pixel of the judged images.
    """
    distances = []
    for row, scene in zip(rows, scenes, strict=True):
        if row["right"]["colours"]:
            seen = {one["colour"]: one for one in row["judged"]}
            distances += [
                float(np.hypot(*(seen[thing.colour][axis] * scale - getattr(thing, axis) for axis in ("x", "y"))))
                for thing in scene.objects
            ]
    return mean(distances)


def random_codes(counts: Sequence[int], codebook_size: int, seed: int) -> list[np.ndarray]:
    """Return uniformly random codes, as many an image as `counts` says."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, codebook_size, size=count, dtype=np.int64) for count in counts]


def _row(found: Sequence[Found], verdict: Verdict, scene: Scene) -> dict[str, Any]:
    right = {criterion: getattr(verdict, criterion) for criterion in CRITERIA}
    judged = [
        {key: round(value, 2) if isinstance(value, float) else value for key, value in dataclasses.asdict(one).items()}
        for one in found
    ]
    return {
        "key": scene.key,
        "combination": scene.combination,
        "prompt": scene.prompt,
        "judged": judged,
        "right": right,
    }

"""Captions scored by what they claim: objects, colours, shapes, their binding, and where things stand."""

from collections.abc import Sequence
from typing import Any

from lavit_scoring import Estimate
from lavit_scoring.estimate import by_combination, proportion
from lavit_shapes.scenes import Scene

from lavit_evaluation.shapes.claims import Claim, parse

CRITERIA = ("objects", "colours", "shapes", "binding", "where", "nothing_false", "everything")
"""`where` must be said and right; `nothing_false` forgives a caption that leaves it out, `everything` does not."""


def judge_caption(caption: str, scene: Scene) -> dict[str, bool]:
    """Return which criteria a caption meets for a scene."""
    said, true = parse(caption), parse(scene.prompt)
    binding = sorted(said.objects) == sorted(true.objects)
    sizes = sizes_right(said, scene)
    where_right = said.where == true.where
    return {
        "objects": len(said.objects) == len(true.objects),
        "colours": sorted(colour for colour, _ in said.objects) == sorted(colour for colour, _ in true.objects),
        "shapes": sorted(shape for _, shape in said.objects) == sorted(shape for _, shape in true.objects),
        "binding": binding,
        "where": binding and where_right,
        "nothing_false": binding and sizes is not False and (where_right or said.where is None),
        "everything": binding and sizes is not False and where_right,
    }


def sizes_right(said: Claim, scene: Scene) -> bool | None:
    """Return whether every size a caption gives is the drawn one; None when it gives none, or names other objects."""
    drawn = {(thing.colour, thing.shape): thing.size for thing in scene.objects}
    given = [(pair, size) for pair, size in zip(said.objects, said.sizes, strict=True) if size is not None]
    if not given or any(pair not in drawn for pair, _ in given):
        return None
    return all(drawn[pair] == size for pair, size in given)


def score_captions(
    captions: Sequence[str], scenes: Sequence[Scene]
) -> tuple[dict[str, Estimate], list[dict[str, Any]]]:
    """Return `captions.<criterion>` (also seen and unseen apart), `captions.sizes`, and one row a caption."""
    rights = [judge_caption(caption, scene) for caption, scene in zip(captions, scenes, strict=True)]
    combinations = [scene.combination for scene in scenes]
    metrics: dict[str, Estimate] = {}
    for name in CRITERIA:
        metrics |= by_combination(f"captions.{name}", [right[name] for right in rights], combinations)
    sizes = [sizes_right(parse(caption), scene) for caption, scene in zip(captions, scenes, strict=True)]
    metrics["captions.sizes"] = proportion(right for right in sizes if right is not None)
    rows = [
        {
            "key": scene.key,
            "combination": scene.combination,
            "caption": caption,
            "expected": scene.prompt,
            "right": right,
        }
        for caption, scene, right in zip(captions, scenes, rights, strict=True)
    ]
    return metrics, rows

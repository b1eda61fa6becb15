"""Captions of a scene, and questions whose answers a reader without the image can't guess well."""

import random

from lavit_shapes.names import COLOURS, OPPOSITE
from lavit_shapes.scenes import Scene, SceneObject
from lavit_shapes.style import EMBEDDED, Style

QUESTION_KINDS = ("colour", "shape", "size", "count", "exist", "position", "relation", "two_hop")

_BESIDE = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
_NEXT = {"left": "left of", "right": "right of", "above": "above", "below": "below"}

_COUNT_TWO = 0.35 / 0.65
"""Share of two-object images whose count is asked: as many answers "two" as "one"."""


def _a(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _name(thing: SceneObject) -> str:
    return f"{thing.colour} {thing.shape}"


def _full(thing: SceneObject) -> str:
    pattern = "" if thing.texture == "plain" else f"{thing.texture} "
    return f"{pattern}{thing.size} {thing.colour} {thing.shape}"


def captions(scene: Scene) -> list[str]:
    """Return five captions of a scene; the first is the canonical prompt, two of them mention sizes."""
    one = scene.objects[0]
    if len(scene.objects) == 1:
        return [
            f"{_a(_name(one))} in the {scene.place}",
            f"{_a(_full(one))} in the {scene.place}",
            f"in the {scene.place} there is {_a(_name(one))}",
            f"one shape, {_a(_name(one))}",
            f"there is one {_full(one)}",
        ]
    two = scene.objects[1]
    there, back = _BESIDE[scene.relation or ""], _BESIDE[OPPOSITE[scene.relation or ""]]
    return [
        f"{_a(_name(one))} {there} {_a(_name(two))}",
        f"{_a(_name(two))} {back} {_a(_name(one))}",
        f"{_a(_full(one))} {there} {_a(_full(two))}",
        # The one sentence that goes from shape to colour, as "what colour is the square?" does.
        f"the {two.shape} is {two.colour} and the {one.shape} is {one.colour}",
        f"there is {_a(_full(two))} {back} {_a(_full(one))}",
    ]


def questions(scene: Scene, rng: random.Random, style: Style = EMBEDDED) -> list[tuple[str, str, str]]:
    """Return (kind, question, answer) of a scene, four to six of them and one on patterns where there are any, a kind
    at most once.

    A question never names the attribute it asks for, and `exist` negatives differ from a drawn object in one attribute.
    """
    things = list(scene.objects)
    rng.shuffle(things)
    one = things[0]
    found = [_exist(scene, rng, style)]
    if len(things) == 1 or rng.random() < _COUNT_TWO:
        found.append(("count", "how many shapes are there?", "one" if len(things) == 1 else "two"))
    about = [
        ("colour", f"what colour is the {one.shape}?", one.colour),
        ("shape", f"what shape is {one.colour}?", one.shape),
        ("size", f"what size is the {rng.choice((one.shape, f'{one.colour} shape'))}?", one.size),
    ]
    found += rng.sample(about, 2)
    if len(things) == 1:
        found.append(("position", f"where is the {one.shape}?", scene.place or ""))
    else:
        found += _between(scene, things, rng)
    if style.textures:
        found.append(("pattern", f"what pattern does the {one.colour} shape have?", one.texture))
    return found


def _exist(scene: Scene, rng: random.Random, style: Style) -> tuple[str, str, str]:
    present = [(thing.colour, thing.shape) for thing in scene.objects]
    colour, shape = rng.choice(present)
    answer = rng.choice(("yes", "no"))
    if answer == "no":
        # Train never asks about a held-out combination: a learner would take its absence for a rule.
        allowed = style.seen if scene.combination == "seen" else style.combinations
        by_colour = rng.random() < 0.5
        others = [(other, shape) for other in COLOURS] if by_colour else [(colour, other) for other in style.shapes]
        colour, shape = rng.choice([pair for pair in others if pair in allowed and pair not in present])
    return "exist", f"is there {_a(f'{colour} {shape}')}?", answer


def _between(scene: Scene, things: list[SceneObject], rng: random.Random) -> list[tuple[str, str, str]]:
    """Questions on how two objects stand to each other."""
    one, two = things
    side = scene.relation or ""
    if one is not scene.objects[0]:
        side = OPPOSITE[side]
    if rng.random() < 0.5:
        relation = f"where is the {one.shape} relative to the {two.shape}?"
    else:
        relation = f"where is the {one.colour} shape relative to the {two.colour} shape?"
    if rng.random() < 0.5:
        hop = ("two_hop", f"what colour is the shape {_NEXT[side]} the {two.shape}?", one.colour)
    else:
        hop = ("two_hop", f"what shape is {_NEXT[side]} the {two.colour} shape?", one.shape)
    return [("relation", relation, side), hop]

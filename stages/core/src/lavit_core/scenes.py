"""Scenes of the embedded data: one or two coloured shapes, said as numbers; which combinations training never shows."""

import dataclasses
import random
from typing import Any, Literal

from lavit_core.seeds import derive_seed

IMAGE_PX = 64
"""Side of a drawn picture in pixels."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 30, 40),
    "green": (35, 155, 60),
    "blue": (35, 75, 215),
    "yellow": (245, 215, 30),
    "purple": (140, 45, 170),
    "orange": (245, 125, 20),
}
"""sRGB of each colour name, at least 95 apart from each other and far from the light backgrounds."""

SHAPES = ("circle", "square", "triangle")

RADIUS_PX = {"small": (10.0, 11.0), "large": (14.5, 15.2)}
"""Range of the radius of each size name: two large shapes still fit side by side."""

HALF_EXTENT = {"circle": (1.0, 1.0), "square": (0.886, 0.886), "triangle": (1.0, 0.866)}
"""Half width and half height in radii: the square has the circle's area, the triangle has sides of 2."""

HELDOUT_COMBINATIONS = (("yellow", "triangle"), ("blue", "circle"), ("purple", "square"))
"""(colour, shape) pairs that never occur in train, neither drawn nor asked about."""

COMBINATIONS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
SEEN_COMBINATIONS = tuple(pair for pair in COMBINATIONS if pair not in HELDOUT_COMBINATIONS)

RELATIONS = ("left", "right", "above", "below")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}

_MARGIN_PX = 1.0
_GAP_PX = 1.2
_OFF_CENTRE_PX = 7.0
_TWO_OBJECTS = 0.65
_MAX_SLANT = 0.45


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One drawn shape; `x`, `y` is the centre of its bounding box in pixels, y downwards."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """One picture's content. Object 0 stands `relation` of object 1; a single object lies in `place`."""

    combination: Literal["seen", "unseen"]
    objects: tuple[SceneObject, ...]
    relation: str | None
    place: str | None
    background: tuple[int, int, int]

    def row(self, file_name: str, prompt: str) -> dict[str, Any]:
        """Return the scenes.jsonl row."""
        objects = [dataclasses.asdict(thing) for thing in self.objects]
        return {"file_name": file_name, "combination": self.combination, "objects": objects, "prompt": prompt}


def draw_scene(seed: int, split: str, index: int, *, unseen: bool) -> Scene:
    """Draw the scene of picture `index` of a split; `unseen` puts at least one held-out combination in it."""
    rng = random.Random(derive_seed(seed, "scene", split, index))
    pairs = _draw_pairs(rng, 2 if rng.random() < _TWO_OBJECTS else 1, unseen)
    sizes = [rng.choice(("small", "large")) for _ in pairs]
    radii = [rng.uniform(*RADIUS_PX[size]) for size in sizes]
    halves = [tuple(radius * part for part in HALF_EXTENT[pair[1]]) for radius, pair in zip(radii, pairs, strict=True)]
    relation = place = None
    if len(pairs) == 1:
        place, centres = _place_one(rng, halves[0])
    else:
        relation, centres = _place_two(rng, halves)
    objects = tuple(
        SceneObject(shape=shape, colour=colour, size=size, x=round(x, 2), y=round(y, 2), radius=round(radius, 2))
        for (colour, shape), size, radius, (x, y) in zip(pairs, sizes, radii, centres, strict=True)
    )
    light = rng.randint(222, 246)
    background = tuple(light + rng.randint(-8, 8) for _ in range(3))
    return Scene(
        combination="unseen" if unseen else "seen",
        objects=objects,
        relation=relation,
        place=place,
        background=(background[0], background[1], background[2]),
    )


def _draw_pairs(rng: random.Random, count: int, unseen: bool) -> list[tuple[str, str]]:
    """Return (colour, shape) of each object: all colours differ, all shapes differ."""
    pairs = [rng.choice(HELDOUT_COMBINATIONS if unseen else SEEN_COMBINATIONS)]
    allowed = COMBINATIONS if unseen else SEEN_COMBINATIONS
    while len(pairs) < count:
        pair = rng.choice(allowed)
        if pair[0] != pairs[0][0] and pair[1] != pairs[0][1]:
            pairs.append(pair)
    rng.shuffle(pairs)
    return pairs


def _place_one(rng: random.Random, half: tuple[float, ...]) -> tuple[str, list[tuple[float, float]]]:
    """Put one object clearly off the centre along both axes."""
    vertical, horizontal = rng.choice(("top", "bottom")), rng.choice(("left", "right"))
    x, y = (rng.uniform(extent + _MARGIN_PX, IMAGE_PX / 2 - _OFF_CENTRE_PX) for extent in half)
    centre = (x if horizontal == "left" else IMAGE_PX - x, y if vertical == "top" else IMAGE_PX - y)
    return f"{vertical} {horizontal}", [centre]


def _place_two(rng: random.Random, halves: list[tuple[float, ...]]) -> tuple[str, list[tuple[float, float]]]:
    """Put two objects side by side along one axis, with a gap between their boxes, and little slant across it."""
    relation = rng.choice(RELATIONS)
    axis = 0 if relation in ("left", "right") else 1
    near, far = (0, 1) if relation in ("left", "above") else (1, 0)
    taken = 2 * (halves[0][axis] + halves[1][axis]) + 2 * _MARGIN_PX + _GAP_PX
    first, second = sorted(rng.uniform(0, IMAGE_PX - taken) for _ in range(2))
    main = [0.0, 0.0]
    main[near] = _MARGIN_PX + first + halves[near][axis]
    main[far] = _MARGIN_PX + 2 * halves[near][axis] + _GAP_PX + second + halves[far][axis]
    slant = _MAX_SLANT * (main[far] - main[near])
    bounds = [(half[1 - axis] + _MARGIN_PX, IMAGE_PX - half[1 - axis] - _MARGIN_PX) for half in halves]
    cross = [rng.uniform(*bounds[0])]
    cross.append(rng.uniform(max(bounds[1][0], cross[0] - slant), min(bounds[1][1], cross[0] + slant)))
    centres = list(zip(main, cross, strict=True) if axis == 0 else zip(cross, main, strict=True))
    return relation, centres

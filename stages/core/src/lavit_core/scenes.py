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
MORE_SHAPES = (*SHAPES, "diamond", "cross", "ring")
"""Shapes of the larger data set."""

TEXTURES = ("plain", "striped", "dotted", "checked")
"""Patterns of the larger data set: two tones of one colour."""

RADIUS_PX = {"small": (10.0, 11.0), "large": (14.5, 15.2)}
"""Range of the radius of each size name: two large shapes still fit side by side."""

HALF_EXTENT = {
    "circle": (1.0, 1.0),
    "square": (0.886, 0.886),
    "triangle": (1.0, 0.866),
    "diamond": (1.0, 1.0),
    "cross": (1.0, 1.0),
    "ring": (1.0, 1.0),
}
"""Half width and half height in radii: the square has the circle's area, the triangle has sides of 2."""

CROSS_HALF_WIDTH, RING_INNER = 0.36, 0.5
"""Half width of a cross's bars, and radius of a ring's hole, in radii."""

HELDOUT_COMBINATIONS = (("yellow", "triangle"), ("blue", "circle"), ("purple", "square"))
"""(colour, shape) pairs that never occur in train, neither drawn nor asked about."""

MORE_HELDOUT = (*HELDOUT_COMBINATIONS, ("red", "diamond"), ("green", "cross"), ("orange", "ring"))
"""The same for the larger data set."""

RELATIONS = ("left", "right", "above", "below")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}

_MARGIN_PX = 1.0
_GAP_PX = 1.2
_OFF_CENTRE_PX = 7.0
_TWO_OBJECTS = 0.65
_MAX_SLANT = 0.45


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """What the pictures of a data set may show; the default is the embedded data set's."""

    image_px: int = IMAGE_PX
    """Side of a picture; everything grows with it."""
    more_shapes: bool = False
    """Six shapes instead of three."""
    textures: bool = False
    """Half of the objects are striped, dotted or checked, and this is said and asked about."""

    @property
    def shapes(self) -> tuple[str, ...]:
        """The shapes."""
        return MORE_SHAPES if self.more_shapes else SHAPES

    @property
    def heldout(self) -> tuple[tuple[str, str], ...]:
        """(colour, shape) pairs that train never shows."""
        return MORE_HELDOUT if self.more_shapes else HELDOUT_COMBINATIONS

    @property
    def combinations(self) -> tuple[tuple[str, str], ...]:
        """Every (colour, shape) pair."""
        return tuple((colour, shape) for colour in COLOURS for shape in self.shapes)

    @property
    def seen(self) -> tuple[tuple[str, str], ...]:
        """The pairs that train shows."""
        return tuple(pair for pair in self.combinations if pair not in self.heldout)

    def changes(self) -> dict[str, int | bool]:
        """Return the fields that are not the embedded data set's."""
        default = Style()
        return {name: value for name, value in dataclasses.asdict(self).items() if value != getattr(default, name)}


EMBEDDED = Style()
"""The embedded data set."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One drawn shape; `x`, `y` is the centre of its bounding box in pixels, y downwards."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    texture: str = "plain"


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
        for thing in objects:
            if thing["texture"] == "plain":
                del thing["texture"]
        return {"file_name": file_name, "combination": self.combination, "objects": objects, "prompt": prompt}


def draw_scene(seed: int, split: str, index: int, *, unseen: bool, style: Style = EMBEDDED) -> Scene:
    """Draw the scene of picture `index` of a split; `unseen` puts at least one held-out combination in it."""
    rng = random.Random(derive_seed(seed, "scene", split, index))
    pairs = _draw_pairs(rng, 2 if rng.random() < _TWO_OBJECTS else 1, unseen, style)
    sizes = [rng.choice(("small", "large")) for _ in pairs]
    radii = [rng.uniform(*RADIUS_PX[size]) for size in sizes]
    halves = [tuple(radius * part for part in HALF_EXTENT[pair[1]]) for radius, pair in zip(radii, pairs, strict=True)]
    relation = place = None
    if len(pairs) == 1:
        place, centres = _place_one(rng, halves[0])
    else:
        relation, centres = _place_two(rng, halves)
    # Places are drawn in pixels of the embedded data set; a stream of their own keeps textures out of its draws.
    scale = style.image_px / IMAGE_PX
    patterns = _draw_textures(random.Random(derive_seed(seed, "texture", split, index)), len(pairs), style)
    objects = tuple(
        SceneObject(
            shape=shape, colour=colour, size=size, x=round(x * scale, 2), y=round(y * scale, 2),
            radius=round(radius * scale, 2), texture=pattern,
        )
        for (colour, shape), size, radius, (x, y), pattern in zip(pairs, sizes, radii, centres, patterns, strict=True)
    )  # fmt: skip
    light = rng.randint(222, 246)
    background = tuple(light + rng.randint(-8, 8) for _ in range(3))
    return Scene(
        combination="unseen" if unseen else "seen",
        objects=objects,
        relation=relation,
        place=place,
        background=(background[0], background[1], background[2]),
    )


def _draw_textures(rng: random.Random, count: int, style: Style) -> list[str]:
    """Return the pattern of each object: plain half of the time, and always without textures."""
    if not style.textures:
        return ["plain"] * count
    return [rng.choice(TEXTURES[1:]) if rng.random() < 0.5 else "plain" for _ in range(count)]


def _draw_pairs(rng: random.Random, count: int, unseen: bool, style: Style) -> list[tuple[str, str]]:
    """Return (colour, shape) of each object: all colours differ, all shapes differ."""
    pairs = [rng.choice(style.heldout if unseen else style.seen)]
    allowed = style.combinations if unseen else style.seen
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

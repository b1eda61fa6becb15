"""Random scenes: which objects an image shows, of what size, and where."""

import random

from lavit_core.seeds import derive_seed

from lavit_shapes.names import RELATIONS, TEXTURES
from lavit_shapes.outlines import HALF_EXTENT, IMAGE_PX, RADIUS_PX
from lavit_shapes.scenes import Scene, SceneObject
from lavit_shapes.style import EMBEDDED, Style

_MARGIN_PX = 1.0
_GAP_PX = 1.2
_OFF_CENTRE_PX = 7.0
_TWO_OBJECTS = 0.65
_MAX_SLANT = 0.45


def sample_scene(seed: int, split: str, index: int, *, unseen: bool, style: Style = EMBEDDED) -> Scene:
    """Return the random scene of image `index` of a split; `unseen` puts at least one held-out combination in it."""
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

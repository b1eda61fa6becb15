"""One or two small objects on textured ground, 64 px: python examples/foreign/texture.py --out data/texture --seed 0

The ground is noise, stripes, checks or a gradient in two colours; the objects are flat and stand out from both.
"""

import numpy as np
from PIL import Image, ImageDraw
from write_set import Example, draw_set

SIDE = 64
FINE = 6
"""Pixels of an object's drawing to one of the image, along each side."""

GROUNDS = {
    "sand": ((214, 190, 146), (176, 146, 102)),
    "grass": ((104, 150, 78), (66, 108, 52)),
    "sea": ((74, 128, 168), (38, 80, 122)),
    "stone": ((158, 158, 156), (112, 112, 116)),
    "brick": ((168, 92, 70), (126, 62, 50)),
    "night": ((58, 54, 92), (26, 24, 48)),
    "cream": ((242, 234, 212), (214, 200, 172)),
    "rose": ((224, 168, 176), (188, 120, 138)),
}
"""Two colours each, named after what they look like."""
PATTERNS = ("noise", "stripes", "checks", "gradient")

COLOURS = {
    "red": (220, 30, 38),
    "yellow": (250, 216, 30),
    "white": (250, 250, 250),
    "black": (14, 14, 16),
    "blue": (30, 70, 226),
    "green": (20, 160, 70),
    "magenta": (214, 36, 168),
    "cyan": (40, 210, 220),
}
FORMS = ("disc", "square", "star", "cross", "diamond", "drop")


def draw(rng: np.random.Generator) -> Example:
    """Draw one example."""
    ground, pattern = str(rng.choice(list(GROUNDS))), str(rng.choice(PATTERNS))
    image = Image.fromarray(textured(pattern, GROUNDS[ground], rng))
    count = int(rng.integers(1, 3))
    apart = [name for name in COLOURS if distance(name, ground) > 105]
    colours = [str(name) for name in rng.choice(apart, count, replace=False)]
    forms = [str(name) for name in rng.choice(FORMS, count, replace=False)]
    sizes = rng.uniform(5.5, 10.5, count)
    places = free_places(sizes, rng)
    mask = Image.new("L", (SIDE, SIDE))
    for colour, form, size, place in zip(colours, forms, sizes, places, strict=True):
        fine = Image.new("L", (SIDE * FINE, SIDE * FINE))
        points = outline(form, rng.uniform(-0.5, 0.5)) * size + place
        ImageDraw.Draw(fine).polygon([(x * FINE, y * FINE) for x, y in points], fill=255)
        alpha = fine.resize((SIDE, SIDE), Image.Resampling.BOX)
        paint = tuple(int(value) for value in np.clip(np.add(COLOURS[colour], rng.integers(-5, 6, 3)), 0, 255))
        image.paste(paint, mask=alpha)
        mask.paste(255, mask=alpha)

    things = [f"a {colour} {form}" for colour, form in zip(colours, forms, strict=True)]
    where = f"a {ground} gradient" if pattern == "gradient" else f"{ground} {pattern}"
    questions = [
        ("how many objects are there?", ("one", "two")[count - 1], "count"),
        ("what is the ground like?", where, "ground"),
    ]
    for colour, form in zip(colours, forms, strict=True):
        questions.append((f"what colour is the {form}?", colour, "colour"))
        questions.append((f"what is {colour}?", f"the {form}", "form"))
    return Example(
        image=image,
        captions=(f"{' and '.join(things)} on {where}", " and ".join(things)),
        questions=tuple(questions),
        mask=mask,
    )


def distance(colour: str, ground: str) -> float:
    """Return how far a colour is from the line between a ground's two colours, in RGB levels."""
    ends = np.array(GROUNDS[ground], dtype=float)
    between = ends[0] + (ends[1] - ends[0]) * np.linspace(0, 1, 9)[:, None]
    return float(np.linalg.norm(between - COLOURS[colour], axis=1).min())


def textured(pattern: str, colours: tuple[tuple[int, ...], tuple[int, ...]], rng: np.random.Generator) -> np.ndarray:
    """Return a ground, uint8 [SIDE, SIDE, 3]."""
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5) - SIDE / 2
    turn = rng.uniform(0, 2 * np.pi)
    along, across = columns * np.cos(turn) + rows * np.sin(turn), rows * np.cos(turn) - columns * np.sin(turn)
    grain = rng.uniform(0, 0.05)
    if pattern == "noise":
        share = cloud(rng)
        grain = rng.uniform(0.04, 0.16)
    elif pattern == "stripes":
        share = edged(along, rng.uniform(4, 13), rng)
    elif pattern == "checks":
        period = rng.uniform(8, 20)
        one, other = edged(along, period, rng), edged(across, period, rng)
        share = one + other - 2 * one * other
    elif rng.random() < 0.5:
        share = 0.5 + along / (SIDE * 1.3)
    else:
        share = np.hypot(along - rng.uniform(-15, 15), across - rng.uniform(-15, 15)) / 50
    share = share + grain * rng.standard_normal((SIDE, SIDE))
    first, second = np.array(colours, dtype=float)
    return np.rint(np.clip(first + (second - first) * np.clip(share, 0, 1)[..., None], 0, 255)).astype(np.uint8)


def edged(across: np.ndarray, period: float, rng: np.random.Generator) -> np.ndarray:
    """Return stripes of one period as shares from 0 to 1; a pixel on an edge has a share between."""
    wave = np.abs((across / period + rng.uniform()) % 1 - 0.5)  # 0 in the middle of a stripe, 0.5 between two
    return np.clip((wave - 0.25) * period + 0.5, 0, 1)


def cloud(rng: np.random.Generator) -> np.ndarray:
    """Return noise of several sizes as shares about 0.5."""
    total, coarsest = np.zeros((SIDE, SIDE)), int(rng.integers(3, 8))
    for octave in range(4):
        cells = coarsest * 2**octave
        coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        total += np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 2**octave
    return 0.5 + 0.25 * total / total.std()


def free_places(sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a middle (x, y) for each object, so that all lie in the image and none touches another."""
    while True:
        places = np.stack([rng.uniform(size + 1, SIDE - size - 1, 2) for size in sizes])
        if len(sizes) == 1 or np.linalg.norm(places[0] - places[1]) > sizes.sum() + 2:
            return places


def outline(form: str, tilt: float) -> np.ndarray:
    """Return the corners of a form, [N, 2], none farther than 1 from the origin."""
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    if form == "cross":
        a, b = 0.32, 0.94
        arm = np.array([(-a, -b), (a, -b), (a, -a)])
        quarter = np.array([(0, 1), (-1, 0)])
        corners = np.concatenate([arm @ np.linalg.matrix_power(quarter, k) for k in range(4)])
    elif form == "drop":
        # A teardrop: the tip at the top, round below.
        corners = np.stack([0.75 * np.sin(turn) * np.sin(turn / 2) ** 1.5, -np.cos(turn)], axis=1)
    else:
        if form == "star":
            turn, far = np.arange(10) * np.pi / 5, np.where(np.arange(10) % 2, 0.42, 1)
        elif form == "square":
            turn, far = np.pi / 4 + np.arange(4) * np.pi / 2, 1
        elif form == "diamond":
            turn, far = np.arange(4) * np.pi / 2, np.array([1, 0.6, 1, 0.6])
        else:
            far = 0.9
        corners = np.stack([far * np.sin(turn), -far * np.cos(turn)], axis=1)
    return corners @ np.array([(np.cos(tilt), np.sin(tilt)), (-np.sin(tilt), np.cos(tilt))])


if __name__ == "__main__":
    draw_set("texture", draw, __doc__)

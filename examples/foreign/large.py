"""An object that fills half the image or more, 64 px: python examples/foreign/large.py --out data/large --seed 0

Discs, rings, flowers and regular polygons on coloured ground, plain, striped, or with a spot; some are cut by the
border.
"""

import numpy as np
from PIL import Image
from write_set import Example, draw_set

SIDE = 64
FINE = 4
"""Samples to a pixel, along each side."""
SAMPLES = ((np.mgrid[: SIDE * FINE, : SIDE * FINE] + 0.5) / FINE).astype(np.float32)
"""Rows and columns of the samples in pixels, [2, SIDE * FINE, SIDE * FINE]."""

PAINTS = {
    "white": "f4f2ec",
    "grey": "8d8f94",
    "dark blue": "1f2f66",
    "sky blue": "79b8e3",
    "red": "c5322d",
    "pink": "eba0b6",
    "green": "3c8f4e",
    "lime": "b5d645",
    "yellow": "f2cd3a",
    "orange": "e8852b",
    "violet": "6f4a9e",
    "brown": "704a31",
    "black": "1d1d20",
}
SIDES = {"square": 4, "pentagon": 5, "hexagon": 6, "octagon": 8}
FORMS = ("disc", "ring", "flower", *SIDES)
INSIDES = {
    "nothing": ("", ""),
    "stripes": (" with {colour} stripes", "what colour are the stripes?"),
    "a spot": (" with {article} {colour} spot", "what colour is the spot?"),
}
"""What is said of it in a caption, and what is asked about its colour."""


def draw(rng: np.random.Generator) -> Example:
    """Draw one example."""
    form, within = str(rng.choice(FORMS)), str(rng.choice(list(INSIDES), p=(0.4, 0.4, 0.2)))
    if form == "ring" and within == "a spot":
        within = "nothing"  # the hole is where the spot would be
    names, paints = three_colours(rng)
    while (mask := covered(form, rng)).mean() < 127.5:
        pass
    inner = np.zeros((SIDE, SIDE))
    if within == "stripes":
        inner = mean_of_samples(striped(rng))
    elif within == "a spot":
        row, column = (float(np.average(axis, weights=mask)) for axis in np.mgrid[:SIDE, :SIDE])
        inner = mean_of_samples(np.hypot(SAMPLES[0] - row - 0.5, SAMPLES[1] - column - 0.5) < rng.uniform(6, 11))
    body = paints[0] + (paints[1] - paints[0]) * inner[..., None]
    alpha = Image.fromarray(mask)
    ground = Image.new("RGB", (SIDE, SIDE), tuple(int(value) for value in paints[2]))
    image = Image.composite(Image.fromarray(np.rint(body).astype(np.uint8)), ground, alpha)

    extra, asked = INSIDES[within]
    extra = extra.format(article=article(names[1]), colour=names[1])
    name = f"{article(names[0])} {names[0]} {form}{extra}"
    questions = [
        (f"what colour is the {form}?", names[0], "colour"),
        ("what form fills the image?", form, "form"),
        ("what colour is the ground?", names[2], "ground"),
        (f"what is inside the {form}?", within, "inside"),
    ]
    if asked:
        questions.append((asked, names[1], "detail"))
    return Example(image=image, captions=(name, f"{name} on {names[2]} ground"), questions=tuple(questions), mask=alpha)


def article(colour: str) -> str:
    """Return the article of a colour's name."""
    return "an" if colour[0] in "aeiou" else "a"


def three_colours(rng: np.random.Generator) -> tuple[list[str], list[np.ndarray]]:
    """Return names and values of object, inside and ground, any two of them well apart."""
    while True:
        names = [str(name) for name in rng.choice(list(PAINTS), 3, replace=False)]
        paints = [np.array(list(bytes.fromhex(PAINTS[name])), dtype=float) for name in names]
        if min(np.linalg.norm(paints[a] - paints[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 100:
            return names, [np.clip(paint + rng.integers(-10, 11, 3), 0, 255) for paint in paints]


def covered(form: str, rng: np.random.Generator) -> np.ndarray:
    """Return how much of each pixel an object of free size, place and turn covers, uint8 [SIDE, SIDE]."""
    row, column = SIDE / 2 + rng.uniform(-7, 7, 2)
    reach, turn = rng.uniform(25, 37), rng.uniform(0, 2 * np.pi)
    down, right = SAMPLES[0] - row, SAMPLES[1] - column
    far, angle = np.hypot(down, right), np.arctan2(down, right) + turn
    if form == "disc":
        part = far < reach
    elif form == "ring":
        part = (far < reach) & (far > reach * rng.uniform(0.25, 0.5))
    elif form == "flower":
        part = far < reach * (1 + rng.uniform(0.1, 0.22) * np.cos(angle * rng.integers(5, 9)))
    else:
        wedge = 2 * np.pi / SIDES[form]
        part = far * np.cos(angle % wedge - wedge / 2) < reach * np.cos(wedge / 2)
    return np.rint(255 * mean_of_samples(part)).astype(np.uint8)


def striped(rng: np.random.Generator) -> np.ndarray:
    """Return which samples lie in a stripe."""
    turn, period = rng.uniform(0, np.pi), rng.uniform(6, 16)
    across = SAMPLES[0] * np.cos(turn) + SAMPLES[1] * np.sin(turn) + rng.uniform(0, period)
    return across % period < period * rng.uniform(0.3, 0.6)


def mean_of_samples(samples: np.ndarray) -> np.ndarray:
    """Return the mean of the samples in each pixel, [SIDE, SIDE]."""
    return samples.reshape(SIDE, FINE, SIDE, FINE).mean(axis=(1, 3))


if __name__ == "__main__":
    draw_set("large", draw, __doc__)

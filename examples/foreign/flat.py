"""One flat shape on pale ground, 64 px: python examples/foreign/flat.py --out data/flat --seed 0

Rectangles, ellipses and triangles in eight colours, of free place, size, aspect and tilt.
"""

import numpy as np
from PIL import Image, ImageDraw
from write_set import Example, draw_set

SIDE = 64
FINE = 8
"""Pixels of the drawing to one of the image, along each side; their mean smooths the edges."""

COLOURS = {
    "red": (206, 44, 49),
    "green": (52, 142, 66),
    "blue": (44, 92, 190),
    "yellow": (240, 200, 32),
    "orange": (238, 126, 30),
    "purple": (124, 62, 158),
    "brown": (118, 76, 44),
    "black": (34, 34, 38),
}
FORMS = ("rectangle", "ellipse", "triangle")


def draw(rng: np.random.Generator) -> Example:
    """Draw one example."""
    colour, form = str(rng.choice(list(COLOURS))), str(rng.choice(FORMS))
    paint = tuple(int(value) for value in np.clip(np.add(COLOURS[colour], rng.integers(-14, 15, 3)), 0, 255))
    ground = tuple(int(value) for value in rng.integers(218, 254) + rng.integers(-12, 2, 3))
    while not inside(points := place(outline(form, rng), rng)):
        pass
    canvas = Image.new("L", (SIDE * FINE, SIDE * FINE))
    ImageDraw.Draw(canvas).polygon([(x * FINE, y * FINE) for x, y in points], fill=255)
    mask = canvas.reduce(FINE)
    image = Image.composite(Image.new("RGB", (SIDE, SIDE), paint), Image.new("RGB", (SIDE, SIDE), ground), mask)

    name = f"{article(colour)} {colour} {form}"
    captions = [name]
    questions = [("what colour is the shape?", colour, "colour"), (f"what form is the {colour} shape?", form, "form")]
    x, y = (points.min(axis=0) + points.max(axis=0)) / 2 - SIDE / 2
    if abs(x) >= 5:  # nearer to the middle, either answer could be defended
        side = "left" if x < 0 else "right"
        captions.append(f"{name} on the {side}")
        questions.append((f"is the {form} on the left or on the right?", side, "side"))
    if abs(y) >= 5:
        questions.append((f"is the {form} at the top or at the bottom?", "top" if y < 0 else "bottom", "height"))
    return Example(image=image, captions=tuple(captions), questions=tuple(questions), mask=mask)


def outline(form: str, rng: np.random.Generator) -> np.ndarray:
    """Return the corners of a form around the origin, float [N, 2], in pixels."""
    # Up to three times as long as wide; the longer side has 14 to 46 pixels.
    long, aspect = rng.uniform(14, 46), np.exp(rng.uniform(0, np.log(3)))
    width, height = (long, long / aspect) if rng.random() < 0.5 else (long / aspect, long)
    if form == "ellipse":
        angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
        corners = np.stack([np.cos(angle), np.sin(angle)], axis=1) / 2
    elif form == "rectangle":
        corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    else:
        corners = np.array([(-0.5, 0.5), (0.5, 0.5), (rng.uniform(-0.5, 0.5), -0.5)])
    corners = corners * (width, height)
    tilt = 0.0 if rng.random() < 0.4 else rng.uniform(-np.pi, np.pi)
    return corners @ np.array([(np.cos(tilt), np.sin(tilt)), (-np.sin(tilt), np.cos(tilt))])


def place(corners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the corners around a free place of the image."""
    return corners + rng.uniform(0, SIDE, 2)


def inside(points: np.ndarray) -> bool:
    """Return whether all points lie in the image, a pixel or more from its border."""
    return bool((points > 1).all() and (points < SIDE - 1).all())


def article(word: str) -> str:
    """Return the article of a word."""
    return "an" if word[0] in "aeiou" else "a"


if __name__ == "__main__":
    draw_set("flat", draw, __doc__)

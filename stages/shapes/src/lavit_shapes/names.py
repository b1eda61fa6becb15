"""Names of what an image can show, and the colours behind them."""

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

RELATIONS = ("left", "right", "above", "below")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}

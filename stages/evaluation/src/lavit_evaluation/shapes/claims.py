"""What a caption, a prompt or a scene claims: objects with their colours and shapes, and where they stand."""

import re
from dataclasses import dataclass

from lavit_shapes.names import COLOURS, MORE_SHAPES, OPPOSITE

_OBJECT = re.compile(rf"\b(?:(small|large) )?({'|'.join(COLOURS)}) ({'|'.join(MORE_SHAPES)})\b")
_SHAPE_FIRST = re.compile(rf"\bthe ({'|'.join(MORE_SHAPES)}) is ({'|'.join(COLOURS)})\b")
_RELATIONS = (
    ("left", re.compile(r"\bleft of\b")),
    ("right", re.compile(r"\bright of\b")),
    ("above", re.compile(r"\b(?:above|over|on top of)\b")),
    ("below", re.compile(r"\b(?:below|under|beneath)\b")),
)
_PLACE = re.compile(r"\b(top|bottom|upper|lower) (left|right)\b")
_ROWS = {"top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom"}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a sentence says, in a form that can be compared."""

    objects: tuple[tuple[str, str], ...]
    """(colour, shape) of each object, in the order of the sentence."""
    sizes: tuple[str | None, ...] = ()
    """Size name of each object, None where the sentence gives none."""
    relation: str | None = None
    """Where the first object stands seen from the second: left, right, above or below."""
    place: str | None = None
    """Quarter of the image where a single object stands, say "top left"."""

    @property
    def where(self) -> str | None:
        """The place, or the relation seen from the alphabetically first object: "a left of b" is "b right of a"."""
        if self.relation is None or len(self.objects) != 2:
            return self.place
        return self.relation if self.objects[0] <= self.objects[1] else OPPOSITE[self.relation]


def parse(sentence: str) -> Claim:
    """Read the objects and the relation or place out of a sentence; what it does not say stays empty."""
    text = " ".join(sentence.lower().split())
    named: list[tuple[int, str, str, str | None]]
    named = [(match.start(), match[2], match[3], match[1]) for match in _OBJECT.finditer(text)]
    named += [(match.start(), match[2], match[1], None) for match in _SHAPE_FIRST.finditer(text)]
    named.sort(key=lambda one: one[0])
    objects = tuple((colour, shape) for _, colour, shape, _ in named)
    sizes = tuple(size for *_, size in named)
    relation = next((name for name, pattern in _RELATIONS if pattern.search(text)), None)
    place = _PLACE.search(text)
    if len(objects) == 2:
        return Claim(objects=objects, sizes=sizes, relation=relation)
    return Claim(objects=objects, sizes=sizes, place=f"{_ROWS[place[1]]} {place[2]}" if place else None)

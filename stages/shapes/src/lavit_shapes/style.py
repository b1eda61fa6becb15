"""The content that images of a data set may show, and the (colour, shape) combinations that training leaves out."""

import dataclasses

from lavit_shapes.names import COLOURS, MORE_SHAPES, SHAPES
from lavit_shapes.outlines import IMAGE_PX

HELDOUT_COMBINATIONS = (("yellow", "triangle"), ("blue", "circle"), ("purple", "square"))
"""(colour, shape) pairs that never occur in train, neither drawn nor asked about."""

MORE_HELDOUT = (*HELDOUT_COMBINATIONS, ("red", "diamond"), ("green", "cross"), ("orange", "ring"))
"""The same for the larger data set."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """The content that images of a data set may show; the default is the embedded data set's."""

    image_px: int = IMAGE_PX
    """Side of an image in pixels; everything in it grows with it."""
    more_shapes: bool = False
    """Six shapes instead of three."""
    textures: bool = False
    """Half of the objects are striped, dotted or checked; captions and questions mention it."""

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
        """Return the fields that differ from the embedded data set's."""
        default = Style()
        return {name: value for name, value in dataclasses.asdict(self).items() if value != getattr(default, name)}


EMBEDDED = Style()
"""The embedded data set."""

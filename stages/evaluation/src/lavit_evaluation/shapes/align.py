"""Compares what the judge found in an image with what a prompt or a scene claims."""

from collections.abc import Sequence
from dataclasses import dataclass

from lavit_shapes.names import OPPOSITE

from lavit_evaluation.shapes.claims import Claim
from lavit_evaluation.shapes.judge import Found

CRITERIA = ("count", "colours", "shapes", "place", "everything")
"""What an image is judged by; each holds only where the ones before it make it meaningful."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which claims an image meets."""

    count: bool
    """As many objects as claimed."""
    colours: bool
    """The claimed colours and no other, once each."""
    shapes: bool
    """Every colour has its claimed shape (binding), and nothing else is there."""
    place: bool | None
    """The claimed relation or quarter holds for the objects of the claimed colours; None when nothing is claimed."""

    @property
    def everything(self) -> bool:
        """Whether all claims hold at once."""
        return self.count and self.colours and self.shapes and self.place is not False


def align(found: Sequence[Found], claim: Claim, *, image_px: int) -> Verdict:
    """Judge one image against its claim."""
    colours = sorted(one.colour for one in found) == sorted(colour for colour, _ in claim.objects)
    bound = sorted((one.colour, one.shape or "") for one in found) == sorted(claim.objects)
    place: bool | None = None
    if claim.relation is not None:
        place = colours and relation(*_in_order(found, claim)) == claim.relation
    elif claim.place is not None:
        place = colours and quarter(found[0], image_px) == claim.place
    return Verdict(count=len(found) == len(claim.objects), colours=colours, shapes=bound, place=place)


def relation(first: Found, second: Found) -> str | None:
    """Return where the first object stands seen from the second, along the axis on which they are further apart."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) == abs(dy):
        return None
    side = "right" if abs(dx) > abs(dy) else "below"
    return side if (dx if side == "right" else dy) > 0 else OPPOSITE[side]


def quarter(one: Found, image_px: int) -> str:
    """Return the quarter of the image in which an object's centre lies."""
    half = image_px / 2
    return f"{'top' if one.y < half else 'bottom'} {'left' if one.x < half else 'right'}"


def _in_order(found: Sequence[Found], claim: Claim) -> tuple[Found, Found]:
    """Return the found objects in the order in which the claim names their colours."""
    by_colour = {one.colour: one for one in found}
    first, second = (by_colour[colour] for colour, _ in claim.objects)
    return first, second

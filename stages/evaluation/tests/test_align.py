"""Found objects compared with a claim."""

from lavit_evaluation.shapes.align import align
from lavit_evaluation.shapes.claims import parse
from lavit_evaluation.shapes.judge import Found
from lavit_shapes.scenes import Scene


def found(colour: str, shape: str | None, x: float, y: float) -> Found:
    return Found(colour=colour, shape=shape, x=x, y=y, radius=10, iou=0.9)


def test_alignment_needs_count_colours_binding_and_place(two_objects: Scene) -> None:
    claim = parse(two_objects.prompt)
    right = [found("red", "circle", 16, 30), found("blue", "square", 45, 34)]
    assert align(right, claim, image_px=64).everything
    bound_wrong = align([found("red", "square", 16, 30), found("blue", "circle", 45, 34)], claim, image_px=64)
    assert (bound_wrong.colours, bound_wrong.shapes, bound_wrong.place, bound_wrong.everything) == (
        True, False, True, False)  # fmt: skip
    moved = align([found("red", "circle", 50, 30), found("blue", "square", 10, 34)], claim, image_px=64)
    assert (moved.shapes, moved.place) == (True, False)
    steep = align([found("red", "circle", 20, 10), found("blue", "square", 30, 50)], claim, image_px=64)
    assert steep.place is False
    assert not align(right[:1], claim, image_px=64).count
    assert not align([*right, found("green", None, 5, 5)], claim, image_px=64).colours
    assert not align([], claim, image_px=64).everything
    one = parse("a red circle in the top right")
    assert align([found("red", "circle", 40, 20)], one, image_px=64).everything
    assert align([found("red", "circle", 40, 40)], one, image_px=64).place is False

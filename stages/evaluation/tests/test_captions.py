"""Captions held to each of their claims."""

from lavit_evaluation.shapes.captions import judge_caption
from lavit_shapes.scenes import Scene


def test_a_caption_is_held_to_each_of_its_claims(two_objects: Scene) -> None:
    swapped = judge_caption("a blue circle to the left of a red square", two_objects)
    assert {name for name, right in swapped.items() if right} == {"objects", "colours", "shapes"}
    reversed_order = judge_caption("a blue square to the right of a red circle", two_objects)
    assert all(reversed_order.values())
    wrong_side = judge_caption("a red circle to the right of a blue square", two_objects)
    assert wrong_side["binding"]
    assert not wrong_side["nothing_false"]
    wrong_size = judge_caption("a large red circle to the left of a large blue square", two_objects)
    assert wrong_size["where"]
    assert not wrong_size["everything"]
    assert not any(judge_caption("", two_objects).values())

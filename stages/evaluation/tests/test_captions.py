"""Captions held to each of their claims."""

from lavit_evaluation.shapes.captions import judge_caption
from lavit_shapes.scenes import Scene, SceneObject

TWO = Scene(
    key="a",
    combination="seen",
    prompt="a red circle to the left of a blue square",
    objects=(
        SceneObject(shape="circle", colour="red", size="small", x=16.0, y=32.0, radius=10.0),
        SceneObject(shape="square", colour="blue", size="large", x=48.0, y=30.0, radius=15.0),
    ),
)


def test_a_caption_is_held_to_each_of_its_claims() -> None:
    swapped = judge_caption("a blue circle to the left of a red square", TWO)
    assert {name for name, right in swapped.items() if right} == {"objects", "colours", "shapes"}
    reversed_order = judge_caption("a blue square to the right of a red circle", TWO)
    assert all(reversed_order.values())
    wrong_side = judge_caption("a red circle to the right of a blue square", TWO)
    assert wrong_side["binding"]
    assert not wrong_side["nothing_false"]
    wrong_size = judge_caption("a large red circle to the left of a large blue square", TWO)
    assert wrong_size["where"]
    assert not wrong_size["everything"]
    assert not any(judge_caption("", TWO).values())

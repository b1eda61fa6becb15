"""What a sentence claims: objects, sizes and places."""

from lavit_evaluation.shapes.captions import judge_caption
from lavit_evaluation.shapes.claims import Claim, parse
from lavit_shapes.names import OPPOSITE
from lavit_shapes.phrases import captions as all_captions
from lavit_shapes.scenes import Scene


def test_parsing_reads_objects_sizes_and_places() -> None:
    assert parse("A red circle to the LEFT of a blue  square.") == Claim(
        objects=(("red", "circle"), ("blue", "square")), sizes=(None, None), relation="left"
    )
    assert parse("in the top left there is a large green triangle") == Claim(
        objects=(("green", "triangle"),), sizes=("large",), place="top left"
    )
    assert parse("two shapes, an orange square and a red circle").relation is None
    assert parse("the square is orange and the circle is red") == Claim(
        objects=(("orange", "square"), ("red", "circle")), sizes=(None, None)
    )
    assert parse("nothing to see") == Claim(objects=())


def test_parsing_reads_every_caption_that_is_written(two_objects: Scene) -> None:
    for side in OPPOSITE:
        drawn = Scene(combination="seen", objects=two_objects.objects, relation=side)
        prompt, *others = all_captions(drawn)
        scene = Scene(key="a", combination="seen", prompt=prompt, objects=two_objects.objects)
        for caption in (prompt, *others):
            right = judge_caption(caption, scene)
            assert right["binding"]
            assert right["nothing_false"]
            assert right["everything"] == (" is red and " not in caption and " is blue and " not in caption)

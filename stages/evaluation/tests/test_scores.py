"""Intervals, caption parsing, alignment, majority answers, token metrics: each against a value worked out by hand."""

import math

import numpy as np
import pytest
from lavit_evaluation.shapes.align import align
from lavit_evaluation.shapes.captions import judge_caption
from lavit_evaluation.shapes.claims import Claim, parse
from lavit_evaluation.shapes.images import psnr, random_codes
from lavit_evaluation.shapes.judge import Found
from lavit_evaluation.shapes.tokens_report import code_metrics, kept_by_place, patch_cover
from lavit_evaluation.shapes.vqa import (
    Asked,
    above,
    is_right,
    majority_leave_one_out,
    majority_of_training,
    score_answers,
)
from lavit_shapes.names import OPPOSITE
from lavit_shapes.phrases import captions as all_captions
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


def found(colour: str, shape: str | None, x: float, y: float) -> Found:
    return Found(colour=colour, shape=shape, x=x, y=y, radius=10, iou=0.9)


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


def test_parsing_reads_every_caption_that_is_written() -> None:
    for side in OPPOSITE:
        drawn = Scene(combination="seen", objects=TWO.objects, relation=side)
        prompt, *others = all_captions(drawn)
        scene = Scene(key="a", combination="seen", prompt=prompt, objects=TWO.objects)
        for caption in (prompt, *others):
            right = judge_caption(caption, scene)
            assert right["binding"]
            assert right["nothing_false"]
            assert right["everything"] == (" is red and " not in caption and " is blue and " not in caption)


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


def test_alignment_needs_count_colours_binding_and_place() -> None:
    claim = parse(TWO.prompt)
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


def asked(kind: str, expected: str, combination: str = "seen") -> Asked:
    return Asked(question_id=0, key="a", question="?", expected=expected, kind=kind, combination=combination)


def test_answers_are_compared_word_for_word() -> None:
    assert is_right(" Top  Left.", "top left")
    assert not is_right("left", "top left")
    rows = [asked("colour", "red"), asked("colour", "blue", "unseen"), asked("count", "two")]
    metrics = score_answers("questions", rows, ["red", "red", "two"])
    assert metrics["questions.all"].value == pytest.approx(2 / 3)
    assert metrics["questions.kind.colour"].value == 0.5
    assert metrics["questions.kind.colour.unseen"].value == 0.0
    assert above(rows, ["red", "red", "two"], ["red", "blue", "one"]).value == 0.0


def test_majority_leaves_the_question_itself_out() -> None:
    rows = [asked("count", "one"), asked("count", "two"), asked("count", "two"), asked("shape", "circle")]
    assert majority_leave_one_out(rows) == ["two", "one", "one", ""]
    assert majority_of_training(rows, [("count", "One"), ("count", "one"), ("count", "two")]) == [
        "one",
        "one",
        "one",
        "",
    ]


def test_patch_cover_is_the_covered_area() -> None:
    cover = patch_cover(TWO, (8, 8), scene_px=64)
    area = math.pi * 10**2 + math.pi * 15**2
    assert cover.sum() * 64 == pytest.approx(area, rel=0.01)
    assert cover.reshape(8, 8)[0].sum() == 0
    keep = (cover > 0)[None]
    metrics = kept_by_place(keep, cover[None])
    assert [metrics[f"tokens.kept_{place}"].value for place in ("on_shapes", "on_edges", "on_background")] == [1, 1, 0]
    assert sum(metric.n for metric in metrics.values()) == 64


def test_perplexity_of_even_codes_is_their_number() -> None:
    metrics = code_metrics("tokens", np.array([5, 5, 0, 5, 5, 0, 0, 0]))
    assert metrics["tokens.perplexity"].value == pytest.approx(4.0)
    assert metrics["tokens.code_usage"].value == 0.5


def test_psnr_and_random_codes() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    drawn = black.copy()
    drawn[1] += 255
    assert psnr(drawn, black) == pytest.approx([99.0, 0.0])
    codes = random_codes([3, 0, 5], 10, seed=1)
    assert [len(some) for some in codes] == [3, 0, 5]
    assert np.array_equal(codes[2], random_codes([3, 0, 5], 10, seed=1)[2])

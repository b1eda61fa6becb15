import collections

import numpy as np
import pytest
from lavit_shapes.outlines import HALF_EXTENT, RADIUS_PX
from lavit_shapes.sample_scene import sample_scene
from lavit_shapes.scenes import Scene


def scenes(count: int, *, unseen: bool = False, split: str = "train") -> list[Scene]:
    return [sample_scene(3, split, index, unseen=unseen) for index in range(count)]


def test_objects_are_inside_apart_and_clearly_placed():
    for scene in scenes(3000):
        boxes = []
        for thing in scene.objects:
            half = np.array(HALF_EXTENT[thing.shape]) * thing.radius
            centre = np.array([thing.x, thing.y])
            assert (centre - half >= 0.9).all()
            assert (centre + half <= 63.1).all()
            low, high = RADIUS_PX[thing.size]
            assert low - 0.01 <= thing.radius <= high + 0.01
            boxes.append((centre, half))
        if len(boxes) == 1:
            vertical, horizontal = scene.place.split()
            x, y = boxes[0][0]
            assert (x < 25.1) if horizontal == "left" else (x > 38.9)
            assert (y < 25.1) if vertical == "top" else (y > 38.9)
        else:
            (one, half_one), (two, half_two) = boxes
            axis = 0 if scene.relation in ("left", "right") else 1
            gap = abs(one - two) - half_one - half_two
            assert gap[axis] >= 1.1
            assert abs(one - two)[axis] > 2 * abs(one - two)[1 - axis]
            assert (one[axis] < two[axis]) == (scene.relation in ("left", "above"))
            assert scene.objects[0].shape != scene.objects[1].shape
            assert scene.objects[0].colour != scene.objects[1].colour


def test_shares():
    drawn = scenes(4000)
    two = [scene for scene in drawn if len(scene.objects) == 2]
    # Standard error of a share of 4,000 is under 0.008; four of them.
    assert len(two) / 4000 == pytest.approx(0.65, abs=0.032)
    for counts, kinds in (
        (collections.Counter(scene.relation for scene in two), 4),
        (collections.Counter(scene.place for scene in drawn if scene.place), 4),
        (collections.Counter(thing.size for scene in drawn for thing in scene.objects), 2),
    ):
        assert len(counts) == kinds
        assert all(count / counts.total() == pytest.approx(1 / kinds, abs=0.05) for count in counts.values())

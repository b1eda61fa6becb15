"""The judge is right on clean held-out images, and stays right under the blur and noise of generated ones."""

from pathlib import Path

import numpy as np
import pytest
from lavit_core.data import open_data
from lavit_evaluation.shapes.align import CRITERIA, align
from lavit_evaluation.shapes.claims import parse
from lavit_evaluation.shapes.heldout import read_pixels, scenes_of
from lavit_evaluation.shapes.images import known_shapes, score_images
from lavit_evaluation.shapes.judge import connected, judge
from lavit_shapes.make_shapes import make_shapes
from lavit_shapes.names import COLOURS, MORE_SHAPES, SHAPES
from lavit_shapes.style import Style
from PIL import Image, ImageFilter


@pytest.fixture(scope="module")
def heldout(images: np.ndarray, scene_rows: list[dict]) -> list[tuple[np.ndarray, dict]]:
    return list(zip(images, scene_rows, strict=True))


def shares(images: list[np.ndarray], rows: list[dict]) -> dict[str, float]:
    verdicts = [align(judge(p), parse(r["prompt"]), image_px=p.shape[1]) for p, r in zip(images, rows, strict=True)]
    return {name: float(np.mean([getattr(verdict, name) for verdict in verdicts])) for name in CRITERIA}


def test_real_images_are_judged_right(heldout: list[tuple[np.ndarray, dict]]) -> None:
    images, rows = zip(*heldout, strict=True)
    assert min(shares(list(images), list(rows)).values()) >= 0.99


def test_centres_and_sizes_are_those_of_the_scene(heldout: list[tuple[np.ndarray, dict]]) -> None:
    for pixels, row in heldout[:60]:
        drawn = {thing["colour"]: thing for thing in row["objects"]}
        for one in judge(pixels):
            thing = drawn[one.colour]
            assert abs(one.x - thing["x"]) < 1.5
            assert abs(one.y - thing["y"]) < 1.5
            assert abs(one.radius - thing["radius"]) < 1.5


@pytest.mark.parametrize(("blur", "noise", "fade"), [(1.5, 0, 0.0), (0.7, 25, 0.0), (1.0, 12, 0.2)])
def test_blur_noise_and_faded_colours_do_not_confuse_it(
    heldout: list[tuple[np.ndarray, dict]], blur: float, noise: float, fade: float
) -> None:
    rng = np.random.default_rng(0)
    images = []
    for pixels, _ in heldout[:100]:
        soft = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(blur)), dtype=np.float64)
        soft = soft * (1 - fade) + 235 * fade + rng.normal(0, noise, soft.shape)
        images.append(np.clip(soft, 0, 255).astype(np.uint8))
    assert shares(images, [row for _, row in heldout[:100]])["everything"] >= 0.95


def test_larger_images_are_judged_alike(heldout: list[tuple[np.ndarray, dict]]) -> None:
    images = [np.asarray(Image.fromarray(pixels).resize((128, 128))) for pixels, _ in heldout[:20]]
    assert shares(images, [row for _, row in heldout[:20]])["everything"] >= 0.95


def test_an_empty_image_and_noise_hold_no_shape() -> None:
    assert judge(np.full((64, 64, 3), 235, np.uint8)) == []
    static = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert not [one for one in judge(static) if one.shape is not None]


def test_wrong_images_are_not_called_right(heldout: list[tuple[np.ndarray, dict]]) -> None:
    images, rows = zip(*heldout, strict=True)
    moved = list(rows[7:]) + list(rows[:7])
    assert shares(list(images), moved)["everything"] <= 0.03


def test_touching_objects_of_two_colours_are_two() -> None:
    pixels = np.full((64, 64, 3), 235, np.uint8)
    pixels[20:40, 10:30], pixels[20:40, 30:50] = COLOURS["red"], COLOURS["blue"]
    assert [(one.colour, one.shape) for one in judge(pixels)] == [("red", "square"), ("blue", "square")]


def test_connected_areas_do_not_join_at_corners() -> None:
    mask = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1]], dtype=bool)
    areas = connected(mask)
    assert [int(area.sum()) for area in areas] == [2, 2, 1]
    assert np.array_equal(np.logical_or.reduce(areas), mask)


def test_six_shapes_and_their_patterns_are_judged_right(tmp_path: Path) -> None:
    style = Style(image_px=128, more_shapes=True, textures=True)
    make_shapes(tmp_path / "data", 1, 7, 120, style=style, workers=1, quiet=True)
    data = open_data(tmp_path / "data" / "heldout")
    scenes = scenes_of(data)
    drawn = [scenes[record.key] for record in data.records]
    pixels = read_pixels(data, [record.key for record in data.records], 128)
    metrics, _ = score_images("real", pixels, drawn)
    assert min(metric.value for metric in metrics.values()) >= 0.99
    # Where the data shows three shapes, the judge knows three: its metrics do not hang on what others may draw.
    assert known_shapes(drawn) == MORE_SHAPES
    plain = [scene for scene in drawn if {thing.shape for thing in scene.objects} <= set(SHAPES)]
    assert known_shapes(plain) == SHAPES
    assert {one.shape for image in pixels for one in judge(image)} <= {*SHAPES, None}

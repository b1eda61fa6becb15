import dataclasses

import numpy as np
import pytest
from lavit_shapes.names import COLOURS, TEXTURES
from lavit_shapes.render import render
from lavit_shapes.sample_scene import sample_scene
from lavit_shapes.scenes import Scene, SceneObject


def scenes(count: int, *, unseen: bool = False, split: str = "train") -> list[Scene]:
    return [sample_scene(3, split, index, unseen=unseen) for index in range(count)]


def test_pixels_show_what_the_scene_says():
    some = scenes(200)
    images = render(some, seed=3, split="train", indices=range(200)).astype(int)
    names = list(COLOURS)
    palette = np.array([COLOURS[name] for name in names])
    for scene, image in zip(some, images, strict=True):
        for thing in scene.objects:
            pixel = image[int(thing.y), int(thing.x)]
            assert names[int(np.abs(palette - pixel).sum(-1).argmin())] == thing.colour
        if len(scene.objects) == 1:
            ground, colour = np.array(scene.background), np.array(COLOURS[thing.colour])
            cover = ((ground - image) @ (ground - colour) / ((ground - colour) ** 2).sum()).sum()
            area = {"circle": np.pi, "square": (2 * 0.886) ** 2, "triangle": 3**0.5}
            assert cover == pytest.approx(area[thing.shape] * thing.radius**2, rel=0.05)


def test_a_pattern_has_two_tones_of_the_object_s_colour():
    for texture in TEXTURES:
        thing = {"shape": "circle", "colour": "blue", "size": "large", "x": 64.0, "y": 64.0, "radius": 40.0}
        whole = sample_scene(0, "train", 0, unseen=False)
        scene = dataclasses.replace(whole, objects=(SceneObject(**thing, texture=texture),))
        pixels = render([scene], seed=0, split="train", indices=[0], image_px=128)[0].astype(float)
        ground, blue = np.array(scene.background), np.array(COLOURS["blue"])
        inside = np.hypot(*(np.mgrid[:128, :128] + 0.5 - 64.0)) < 36
        share = (pixels[inside] - ground) @ (blue - ground) / ((blue - ground) ** 2).sum()
        assert share.min() > 0.6
        tones = {round(float(value), 1) for value in np.percentile(share, (10, 90))}
        assert tones == ({1.0} if texture == "plain" else {0.7, 1.0})

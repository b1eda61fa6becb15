import dataclasses
import json

import pytest
from lavit_core.errors import InputError
from lavit_shapes.sample_scene import sample_scene
from lavit_shapes.scenes import read_scenes
from lavit_shapes.style import Style


def test_a_scene_read_from_its_row_equals_the_written_one(tmp_path):
    style = Style(textures=True)
    scenes = [
        dataclasses.replace(sample_scene(0, "train", index, unseen=False, style=style), key=f"{index}.png", prompt="p")
        for index in range(20)
    ]
    assert {thing.texture for scene in scenes for thing in scene.objects} > {"plain"}
    (tmp_path / "scenes.jsonl").write_text("".join(json.dumps(scene.row()) + "\n" for scene in scenes))
    read = read_scenes(tmp_path / "scenes.jsonl")
    unwritten = {"relation": None, "place": None, "background": None}
    assert list(read.values()) == [dataclasses.replace(scene, **unwritten) for scene in scenes]
    assert list(read) == [scene.key for scene in scenes]


def test_a_row_that_is_not_a_scene_is_refused_by_line(tmp_path):
    file = tmp_path / "scenes.jsonl"
    file.write_text('{"file_name": "a.png"}\n')
    with pytest.raises(InputError, match=r"scenes.jsonl:1: not a scene \('combination'\); expected file_name"):
        read_scenes(file)

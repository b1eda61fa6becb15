import collections
import dataclasses
import hashlib
import json
import random

import numpy as np
import pytest
from lavit_core.data import open_data
from lavit_core.errors import InputError, UsageError
from lavit_shapes.make_shapes import make_shapes
from lavit_shapes.names import COLOURS, MORE_SHAPES, SHAPES, TEXTURES
from lavit_shapes.outlines import HALF_EXTENT, RADIUS_PX
from lavit_shapes.phrases import QUESTION_KINDS, captions, questions
from lavit_shapes.render import render
from lavit_shapes.sample_scene import sample_scene
from lavit_shapes.scenes import Scene, SceneObject
from lavit_shapes.style import HELDOUT_COMBINATIONS, MORE_HELDOUT, Style
from PIL import Image


def tree_digest(folder) -> str:
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def scenes(count: int, *, unseen: bool = False, split: str = "train") -> list[Scene]:
    return [sample_scene(3, split, index, unseen=unseen) for index in range(count)]


@pytest.fixture(scope="module", name="made")
def made_fixture(tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes") / "data"
    make_shapes(out, 300, 7, 100, quiet=True, workers=1)
    return out


def rows(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_layout_and_counts(made):
    for split, count in (("train", 300), ("heldout", 100)):
        data = open_data(made / split)
        assert len(data.records) == count == len(rows(made / split / "scenes.jsonl"))
        assert all(len(record.captions) == 5 for record in data.records)
        asked = collections.Counter(question.key for question in data.questions)
        assert set(asked) == {record.key for record in data.records}
        assert set(asked.values()) <= {4, 5, 6}
        assert {question.kind for question in data.questions} == set(QUESTION_KINDS)
        assert [question.question_id for question in data.questions] == list(range(len(data.questions)))
        with Image.open(data.records[0].path) as picture:
            assert (picture.size, picture.mode, picture.format) == ((64, 64), "RGB", "PNG")
        for scene, record in zip(rows(made / split / "scenes.jsonl"), data.records, strict=True):
            assert set(scene) == {"file_name", "combination", "objects", "prompt"}
            assert scene["file_name"] == record.key
            assert scene["prompt"] == record.captions[0]


def test_same_seed_same_bytes_whatever_the_workers(made, tmp_path, monkeypatch):
    monkeypatch.setattr("lavit_shapes.make_shapes._INLINE_IMAGES", 0)
    monkeypatch.setattr("lavit_shapes.make_shapes._CHUNK", 37)
    make_shapes(tmp_path / "three", 300, 7, 100, quiet=True, workers=3)
    assert tree_digest(tmp_path / "three") == tree_digest(made)
    make_shapes(tmp_path / "other", 20, 8, 0, quiet=True, workers=1)
    first = "train/images/000000.png"
    assert (tmp_path / "other" / first).read_bytes() != (made / first).read_bytes()


def test_more_pictures_keep_the_first_ones(made, tmp_path):
    make_shapes(tmp_path / "few", 20, 7, 10, quiet=True)
    for split in ("train", "heldout"):
        for file in (tmp_path / "few" / split / "images").iterdir():
            assert file.read_bytes() == (made / split / "images" / file.name).read_bytes()


def test_made_once_and_never_over_other_files(made, tmp_path):
    before = (made / "shapes.json").stat().st_mtime_ns
    assert make_shapes(made, 300, 7, 100, quiet=True)["images"] == 300
    assert (made / "shapes.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"holds other drawings .*'seed': 7.*expected .*'seed': 8"):
        make_shapes(made, 300, 8, 100, quiet=True)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="holds no drawings"):
        make_shapes(tmp_path, 10, 0, quiet=True)
    with pytest.raises(UsageError, match="--images 0"):
        make_shapes(tmp_path / "x", 0, 0, quiet=True)


def test_an_interrupted_drawing_starts_again(made, tmp_path):
    half = tmp_path / ".data.tmp" / "train" / "images"
    half.mkdir(parents=True)
    (half / "000000.png").write_bytes(b"half")
    make_shapes(tmp_path / "data", 300, 7, 100, quiet=True, workers=1)
    assert tree_digest(tmp_path / "data") == tree_digest(made)


def test_train_never_shows_or_asks_about_heldout_combinations():
    forbidden = {f"{colour} {shape}" for colour, shape in HELDOUT_COMBINATIONS}
    seen = set()
    for scene in scenes(3000):
        said = captions(scene) + [question for _, question, _ in questions(scene, random.Random(0))]
        assert not any(name in text for name in forbidden for text in said)
        seen |= {(thing.colour, thing.shape) for thing in scene.objects}
    assert len(seen) == len(COLOURS) * len(SHAPES) - len(forbidden)


def test_unseen_scenes_show_one(made):
    for scene in scenes(500, unseen=True, split="heldout"):
        assert {(thing.colour, thing.shape) for thing in scene.objects} & set(HELDOUT_COMBINATIONS)
    kinds = collections.Counter(row["combination"] for row in rows(made / "heldout" / "scenes.jsonl"))
    assert kinds == {"seen": 50, "unseen": 50}
    assert {row["combination"] for row in rows(made / "train" / "scenes.jsonl")} == {"seen"}


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


def test_pixels_show_what_the_scene_says():
    some = scenes(200)
    pictures = render(some, seed=3, split="train", indices=range(200)).astype(int)
    names = list(COLOURS)
    palette = np.array([COLOURS[name] for name in names])
    for scene, picture in zip(some, pictures, strict=True):
        for thing in scene.objects:
            pixel = picture[int(thing.y), int(thing.x)]
            assert names[int(np.abs(palette - pixel).sum(-1).argmin())] == thing.colour
        if len(scene.objects) == 1:
            ground, colour = np.array(scene.background), np.array(COLOURS[thing.colour])
            cover = ((ground - picture) @ (ground - colour) / ((ground - colour) ** 2).sum()).sum()
            area = {"circle": np.pi, "square": (2 * 0.886) ** 2, "triangle": 3**0.5}
            assert cover == pytest.approx(area[thing.shape] * thing.radius**2, rel=0.05)


def blind_score(asked: list[tuple[str, str]]) -> float:
    """Return the share of answers right for one who knows each question's commonest answer, and no picture."""
    by_question: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for question, answer in asked:
        by_question[question][answer] += 1
    return sum(max(counts.values()) for counts in by_question.values()) / len(asked)


def test_the_blind_gain_little_from_priors():
    asked = collections.defaultdict(list)
    for index, scene in enumerate(scenes(6000)):
        found = questions(scene, random.Random(index))
        assert len({kind for kind, _, _ in found}) == len(found)
        for kind, question, answer in found:
            asked[kind].append((question, answer))
    # By kind: the chance of guessing, and a margin for the commonest answer among few questions of a kind.
    chance = {"colour": 1 / 5, "shape": 1 / 2.5, "size": 1 / 2, "count": 1 / 2, "exist": 1 / 2}
    chance |= {"position": 1 / 4, "relation": 1 / 4, "two_hop": 0.4}
    for kind, share in chance.items():
        assert blind_score(asked[kind]) < share + 0.08, kind
    everything = [pair for pairs in asked.values() for pair in pairs]
    assert blind_score(everything) < 0.42


def test_answers_are_true():
    for index, scene in enumerate(scenes(1500) + scenes(500, unseen=True)):
        things = {thing.shape: thing for thing in scene.objects} | {thing.colour: thing for thing in scene.objects}
        present = {f"{thing.colour} {thing.shape}" for thing in scene.objects}
        for kind, question, answer in questions(scene, random.Random(index)):
            words = question.rstrip("?").split()
            named = [things[word] for word in words if word in things]
            if kind in ("colour", "shape", "size"):
                assert answer == getattr(named[0], kind)
            elif kind == "count":
                assert answer == ("one", "two")[len(scene.objects) - 1]
            elif kind == "exist":
                assert (answer == "yes") == (" ".join(words[-2:]) in present)
                near = [set(words[-2:]) & set(name.split()) for name in present]
                assert any(near)
            elif kind == "position":
                assert answer == scene.place
            elif kind == "relation":
                one, two = named
                found = {"left": one.x < two.x, "right": one.x > two.x, "above": one.y < two.y, "below": one.y > two.y}
                assert found[answer]
            else:
                other = next(thing for thing in scene.objects if thing is not named[0])
                assert answer in (other.colour, other.shape)
                side = next(word for word in words if word in ("left", "right", "above", "below"))
                beside = {"left": other.x < named[0].x, "right": other.x > named[0].x}
                beside |= {"above": other.y < named[0].y, "below": other.y > named[0].y}
                assert beside[side]


def test_articles_and_canonical_prompts():
    texts = [text for scene in scenes(500) for text in captions(scene)]
    assert not any(" a orange" in f" {text}" or "None" in text or "  " in text for text in texts)
    prompts = {captions(scene)[0] for scene in scenes(500)}
    assert all(not any(size in prompt for size in ("small", "large")) for prompt in prompts)
    assert any(prompt.startswith("an orange") and "to the left of" in prompt for prompt in prompts)


def content_digest(folder) -> str:
    """Pixels and words; not the PNG files, whose compression belongs to the zlib that is installed."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(folder)}\0".encode())
        digest.update(np.asarray(Image.open(file)).tobytes() if file.suffix == ".png" else file.read_bytes())
    return digest.hexdigest()


def test_the_embedded_data_never_changes(tmp_path):
    """A seed means these pictures and words for ever: figures of other people's runs hang on them."""
    make_shapes(tmp_path / "data", 24, 0, 12, quiet=True, workers=1)
    assert content_digest(tmp_path / "data") == "e2760dc388398e6c07c4103949a9f11efbc577cb5666f309c88fab8803d1c192"


LARGE = Style(image_px=128, more_shapes=True, textures=True)


def test_the_larger_data_set(tmp_path):
    make_shapes(tmp_path / "data", 400, 3, 40, style=LARGE, quiet=True, workers=1)
    assert json.loads((tmp_path / "data" / "shapes.json").read_text())["textures"] is True
    drawn = rows(tmp_path / "data" / "train" / "scenes.jsonl")
    objects = [thing for row in drawn for thing in row["objects"]]
    assert {thing["shape"] for thing in objects} == set(MORE_SHAPES)
    counts = collections.Counter(thing.get("texture", "plain") for thing in objects)
    assert set(counts) == set(TEXTURES)
    assert counts["plain"] == pytest.approx(len(objects) / 2, rel=0.15)
    assert not {(thing["colour"], thing["shape"]) for thing in objects} & set(MORE_HELDOUT)
    unseen = rows(tmp_path / "data" / "heldout" / "scenes.jsonl")[1::2]
    assert all({(t["colour"], t["shape"]) for t in row["objects"]} & set(MORE_HELDOUT) for row in unseen)
    for thing in objects:
        half = np.array(HALF_EXTENT[thing["shape"]]) * thing["radius"]
        assert (np.array([thing["x"], thing["y"]]) - half >= 1.8).all()
        assert (np.array([thing["x"], thing["y"]]) + half <= 126.2).all()
    data = open_data(tmp_path / "data" / "train")
    with Image.open(data.records[0].path) as picture:
        assert picture.size == (128, 128)
    asked = [question for question in data.questions if question.kind == "pattern"]
    assert len(asked) == 400
    by_key = {row["file_name"]: row["objects"] for row in drawn}
    for question in asked:
        [thing] = [one for one in by_key[question.key] if f" {one['colour']} " in question.question]
        assert question.answer == thing.get("texture", "plain")
    said = [text for record in data.records for text in record.captions]
    assert any("striped large" in text or "striped small" in text for text in said)


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


def test_a_side_out_of_range_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--image-px 16: expected 32 to 1024 pixels"):
        make_shapes(tmp_path / "x", 4, 0, style=Style(image_px=16), quiet=True)
    make_shapes(tmp_path / "data", 4, 0, 0, quiet=True)
    with pytest.raises(InputError, match=r"holds other drawings .*expected .*'more_shapes': True"):
        make_shapes(tmp_path / "data", 4, 0, 0, style=Style(more_shapes=True), quiet=True)

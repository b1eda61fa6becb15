import collections
import hashlib
import json

import numpy as np
import pytest
from lavit_core.data import open_data
from lavit_core.errors import InputError, UsageError
from lavit_shapes.make_shapes import make_shapes
from lavit_shapes.names import MORE_SHAPES, TEXTURES
from lavit_shapes.outlines import HALF_EXTENT
from lavit_shapes.phrases import QUESTION_KINDS
from lavit_shapes.sample_scene import sample_scene
from lavit_shapes.scenes import Scene
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
        with Image.open(data.records[0].image) as image:
            assert (image.size, image.mode, image.format) == ((64, 64), "RGB", "PNG")
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


def test_more_images_keep_the_first_ones(made, tmp_path):
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


def test_unseen_scenes_show_one(made):
    for scene in scenes(500, unseen=True, split="heldout"):
        assert {(thing.colour, thing.shape) for thing in scene.objects} & set(HELDOUT_COMBINATIONS)
    kinds = collections.Counter(row["combination"] for row in rows(made / "heldout" / "scenes.jsonl"))
    assert kinds == {"seen": 50, "unseen": 50}
    assert {row["combination"] for row in rows(made / "train" / "scenes.jsonl")} == {"seen"}


def content_digest(folder) -> str:
    """Pixels and words; not the PNG files, whose compression belongs to the zlib that is installed."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(folder)}\0".encode())
        digest.update(np.asarray(Image.open(file)).tobytes() if file.suffix == ".png" else file.read_bytes())
    return digest.hexdigest()


def test_the_embedded_data_never_changes(tmp_path):
    """A seed means these images and words for ever: metrics of other people's runs hang on them."""
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
    with Image.open(data.records[0].image) as image:
        assert image.size == (128, 128)
    asked = [question for question in data.questions if question.kind == "pattern"]
    assert len(asked) == 400
    by_key = {row["file_name"]: row["objects"] for row in drawn}
    for question in asked:
        [thing] = [one for one in by_key[question.key] if f" {one['colour']} " in question.question]
        assert question.answer == thing.get("texture", "plain")
    said = [text for record in data.records for text in record.captions]
    assert any("striped large" in text or "striped small" in text for text in said)


def test_a_side_out_of_range_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--image-px 16: expected 32 to 1024 pixels"):
        make_shapes(tmp_path / "x", 4, 0, style=Style(image_px=16), quiet=True)
    make_shapes(tmp_path / "data", 4, 0, 0, quiet=True)
    with pytest.raises(InputError, match=r"holds other drawings .*expected .*'more_shapes': True"):
        make_shapes(tmp_path / "data", 4, 0, 0, style=Style(more_shapes=True), quiet=True)

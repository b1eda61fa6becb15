"""COCO captions and Karpathy's splits."""

import json

import pytest
from lavit_core.data import Source, open_data, scan_data
from lavit_core.errors import InputError

from .layout_writers import (
    coco_of,
    karpathy_of,
    write_coco,
    write_karpathy,
)


def test_splits_must_be_chosen(photos, tmp_path):
    folder = write_karpathy(photos, tmp_path / "out")
    value = karpathy_of(photos)
    rows = value["images"]
    assert isinstance(rows, list)
    for place, row in enumerate(rows):
        row["split"] = ["train", "val", "restval"][place % 3]
    (folder / "dataset.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"holds the splits restval, train, val; give --split NAME"):
        open_data(folder)
    assert len(open_data(Source(folder, split="train")).records) == 2
    assert len(open_data(Source(folder, split="train, restval")).records) == 4
    assert len(open_data(Source(folder, split="all")).records) == 6
    with pytest.raises(InputError, match=r"no split 'test', found restval, train, val"):
        open_data(Source(folder, split="test"))


def test_several_coco_files_are_named(photos, tmp_path):
    folder = write_coco(photos, tmp_path / "out")
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(coco_of(photos)))
    with pytest.raises(
        InputError, match=r"2 files of COCO captions \(annotations/captions_train2017.json, annotations/"
    ):
        open_data(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda value: value["annotations"].append({"image_id": 99, "caption": "x"}),
            "image_id 99 is no image of this",
        ),
        (
            lambda value: value["annotations"].append({"image_id": 1}),
            "annotation 12: caption is null, expected a string",
        ),
        (lambda value: value["images"].append({"id": 99}), "image 99: file_name is null"),
        (
            lambda value: value["images"].append({"id": 99, "file_name": "99.jpg"}),
            "99.jpg: no such image, yet captions_",
        ),
    ],
)
def test_what_is_wrong_in_coco_is_named(photos, tmp_path, change, message):
    folder = write_coco(photos, tmp_path / "out")
    value = coco_of(photos)
    change(value)
    (folder / "annotations" / "captions_train2017.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=message):
        open_data(folder)


def test_coco_without_captions_is_refused(photos, tmp_path):
    folder = write_coco(photos, tmp_path / "out")
    (folder / "annotations" / "captions_train2017.json").unlink()
    with pytest.raises(InputError, match=r"instances_train2017.json: its annotations have no caption"):
        open_data(folder)
    assert open_data(Source(folder, caption_column="none")).layout == "images"


def test_a_json_file_that_was_named_and_is_broken(tmp_path):
    (tmp_path / "captions.json").write_text("{")
    with pytest.raises(InputError, match=r"captions.json: not valid JSON"):
        open_data(tmp_path / "captions.json")
    (tmp_path / "captions.json").write_text("[1]")
    with pytest.raises(InputError, match=r"captions.json: no column of image names, found nothing"):
        open_data(tmp_path / "captions.json")


def test_coco_images_without_an_own_id_are_named(photos, tmp_path):
    folder = write_coco(photos, tmp_path / "out")
    value = coco_of(photos)
    value["images"] += [{**value["images"][0], "file_name": "other.jpg"}, {"file_name": "x.jpg"}, "1.jpg"]
    (folder / "annotations" / "captions_train2017.json").write_text(json.dumps(value))
    messages = " ".join(problem.message for problem in scan_data(folder)[1])
    assert "image id 0 is both" in messages
    assert "id is null, expected a number or a string" in messages
    assert "found '1.jpg', expected an object" in messages or 'found "1.jpg", expected an object' in messages


def test_karpathy_images_without_sentences_are_named(photos, tmp_path):
    folder = write_karpathy(photos, tmp_path / "out")
    value = karpathy_of(photos)
    del value["images"][1]["sentences"]
    (folder / "dataset.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="sentences is null, not raw"):
        open_data(Source(folder, split="all"))


def test_a_key_that_stands_twice_is_refused(photos, tmp_path):
    folder = write_coco(photos, tmp_path / "out")
    file = folder / "annotations" / "captions_train2017.json"
    file.write_text(file.read_text().replace('"caption":', '"caption": "lost", "caption":', 1))
    with pytest.raises(InputError, match="key 'caption' twice in one object; one of the values would be lost"):
        open_data(folder)

"""Data sets that are listed on disk: the same records, digests and plans as in memory, and as they were."""

import dataclasses
import hashlib
import os
import re
import tarfile

import pytest
from lavit_core import line_store
from lavit_core.data import Source, open_data, scan_data
from lavit_core.data_plan import keep_plan, open_plan
from lavit_core.errors import InputError
from PIL import Image

from .layout_writers import WRITERS, add_member, jpeg, make_photos

NAMES = ("a.jpg", "a-b.jpg", "a/1.jpg", "a-/1.JPG", "a.jpg.png", "a/b/c.v2.jpg", "é \u2028.jpg", "Z.jpg", "b.txt.jpg")
"""In the order of keys a folder does not stand where its name alone would."""

TEXTS = {
    "a.txt": "one\ntwo\n",
    "a/1.jpg.txt": "of the whole name",
    "a-b.json": '{"caption": "in json"}',
    "a/b/c.v2.caption": "dots",
    "é \u2028.TXT": "\n é \n",
    "Z.txt": "",
    "b.txt.txt": "text of b.txt.jpg",
    "alone.txt": "no image",
}


@pytest.fixture(autouse=True, params=["in memory", "on disk"])
def where(request, monkeypatch):
    if request.param == "on disk":
        monkeypatch.setattr(line_store, "MEMORY_BYTES", 300)
        monkeypatch.setattr(line_store, "BLOCK_LINES", 2)
    return request.param


def folder_of(root, names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * number)
    return root


def plan_of(out, source):
    """Return the SHA-256 of the plan's rows, with the folder of the test left out."""
    out.mkdir()
    keep_plan(out, source, open_plan(out, source, 4))
    [rows] = out.glob("*.records")
    return hashlib.sha256(rows.read_bytes().replace(os.fsencode(out.parent), b"")).hexdigest()


def test_a_folder_with_text_files_is_what_it_was(tmp_path):
    root = folder_of(tmp_path / "data", NAMES)
    for name, text in TEXTS.items():
        (root / name).write_text(text, encoding="utf-8")
    data = open_data(root)
    assert [record.key for record in data.records] == sorted(NAMES)
    assert {record.key: record.captions for record in data.records if record.captions} == {
        "a-b.jpg": ("in json",),
        "a.jpg": ("one", "two"),
        "a/1.jpg": ("of the whole name",),
        "a/b/c.v2.jpg": ("dots",),
        "b.txt.jpg": ("text of b.txt.jpg",),
        "é \u2028.jpg": ("é",),
    }
    assert data.digest == "5489cdae969f65b2966e3bd794c50388df7a8a3a5a2fad8cc9a4e2a07bf19a18"
    assert plan_of(tmp_path / "out", Source(root)) == "b5b0c9d829a4f3d8ea8fc15a98ab15c88263b4d3a792911b31cc12ba41ee097b"
    assert "7 of 9 images have one" in data.notes[1]


def test_tars_are_what_they_were(tmp_path):
    for number, names in enumerate((["b", "a"], ["d", "c"])):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for name in names:
                add_member(tar, f"{name}.jpg", b"x" * (9 + number))
                add_member(tar, f"{name}.txt", name.encode())
    source = Source(tmp_path)
    assert open_data(source).digest == "6846ad562b076efbec531c426527643215051441af8a28a5a2f9d1693fa4b269"
    assert plan_of(tmp_path / "out", source) == "4377f5beb9bffdfd6e0228a5c0be042385096bc7d9387b3fecce0de934658937"


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_is_listed_alike(layout, tmp_path, monkeypatch):
    source = Source(WRITERS[layout](make_photos(tmp_path / "photos", 9), tmp_path / "out"))
    opened = open_data(source)
    found = dataclasses.replace(opened, records=list(opened.records))
    monkeypatch.undo()
    assert found == open_data(source)


def test_images_that_are_missing_are_named_in_order(tmp_path):
    root = folder_of(tmp_path / "data", [f"{number}.jpg" for number in range(20)])
    for number in (3, 17):
        (root / f"{number}.jpg").unlink()
        (root / f"{number}.jpg").symlink_to("nowhere")
    data, problems = scan_data(root)
    assert len(data.records) == 18
    assert [re.findall(r"\d+\.jpg", problem.message)[0] for problem in problems] == ["17.jpg", "3.jpg"]


def test_records_are_read_in_any_order_and_by_slices(tmp_path):
    root = folder_of(tmp_path / "data", [f"{number:02d}.jpg" for number in range(20)])
    records = open_data(root).records
    keys = [f"{number:02d}.jpg" for number in range(20)]
    assert [records[index].key for index in (19, 0, -1, 7)] == [keys[19], keys[0], keys[19], keys[7]]
    assert [record.key for record in records[3:18:4]] == keys[3:18:4]
    assert [record.key for record in records[15:40]] == keys[15:]
    for index in (20, -21):
        with pytest.raises(IndexError):
            records[index]


def test_sources_are_joined(tmp_path):
    for name in ("b", "a"):
        folder_of(tmp_path / name, [f"{number}.jpg" for number in range(5)])
    (tmp_path / "sources.yaml").write_text("sources: [{data: b, weight: 3}, {data: a}]")
    records = open_data(tmp_path / "sources.yaml").records
    assert [(record.key, record.weight) for record in records] == [
        (f"{name}/{number}.jpg", weight) for name, weight in (("a", 1), ("b", 3)) for number in range(5)
    ]
    assert records[-1].image == tmp_path / "b" / "4.jpg"


def test_tars_of_one_name_with_equal_members_are_refused(tmp_path):
    for name in ("x.tar", "x.TAR"):
        with tarfile.open(tmp_path / name, "w") as tar:
            add_member(tar, "0.jpg", jpeg())
    with pytest.raises(InputError, match=r"2 tars called x, with images of equal names; rename one of them"):
        open_data(tmp_path)


def test_other_lists_beside_images_are_named(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    for name in ("a.csv", "b.csv", "c.json", "d.zip", "e.tar"):
        (tmp_path / name).write_text("x,y\n1,2\n")
    assert "a.csv, b.csv, c.json and 2 more not read" in open_data(tmp_path).notes[0]

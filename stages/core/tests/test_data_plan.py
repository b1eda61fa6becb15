"""The plan of a data set on disk: the same records in every layout, as long as the data is as it was."""

import json
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from lavit_core import data_plan
from lavit_core.data import Record, Source, open_data
from lavit_core.data_plan import keep_plan, open_plan, plan_file, read_plan
from lavit_core.errors import InputError
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """Seven images in two folders that are long there, one with captions beside it."""
    for index in range(7):
        file = tmp_path / "data" / f"part{index % 2}" / f"{index}\u2028.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (index, 0, 0)).save(file)
    (tmp_path / "data" / "part0" / "4\u2028.txt").write_text("one\nt\u00fcr\n", encoding="utf-8")
    return aged(tmp_path / "data")


def aged(root):
    """Give every file and folder the time of an hour ago."""
    for path in (root, *root.rglob("*")):
        before = path.stat().st_mtime - 3600
        os.utime(path, (before, before))
    return root


def in_tar(folder, tmp_path):
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "0.tar", "w") as tar:
        for file in sorted(folder.rglob("*.*")):
            tar.add(file, file.name)
    return aged(tmp_path / "tars")


def in_parquet(folder, tmp_path):
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    rows = [{"image": {"bytes": file.read_bytes(), "path": file.name}, "text": "t"} for file in folder.rglob("*.png")]
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "parquet" / "a.parquet", row_group_size=3)
    return aged(tmp_path / "parquet")


def kept(out, source, size=3):
    out.mkdir(exist_ok=True)
    return keep_plan(out, source, open_plan(out, source, size))


@pytest.mark.parametrize("layout", [lambda folder, tmp_path: folder, in_tar, in_parquet])
def test_blocks_hold_the_records_of_the_data(folder, tmp_path, layout):
    source = Source(layout(folder, tmp_path))
    opened = open_data(source)
    kept(tmp_path / "out", source)
    plan = read_plan(tmp_path / "out", source, 3)
    assert not plan.in_memory
    assert (plan.digest, plan.num_records, plan.num_blocks) == (opened.digest, 7, 3)
    assert [plan.size(block) for block in range(3)] == [3, 3, 1]
    found = [record for block in range(3) for record in plan.read(block)]
    assert found == list(opened.records)
    assert [record.image.read_bytes() for record in found] == [record.image.read_bytes() for record in opened.records]


def test_a_data_set_that_is_as_it_was_is_not_read_again(folder, tmp_path, monkeypatch):
    source, out = Source(folder), tmp_path / "out"
    kept(out, source)
    monkeypatch.setattr(data_plan, "open_data", None)
    plan = open_plan(out, source, 3)
    assert keep_plan(out, source, plan) is plan


def add(folder):
    Image.new("RGB", (4, 4)).save(folder / "part1" / "new.png")


def take(folder):
    (folder / "part0" / "0\u2028.png").unlink()


def rename_a_folder(folder):
    (folder / "part1").rename(folder / "part2")


@pytest.mark.parametrize("change", [add, take, rename_a_folder])
def test_a_folder_that_changed_is_read_again(folder, tmp_path, change):
    source, out = Source(folder), tmp_path / "out"
    kept(out, source)
    assert read_plan(out, source, 3) is not None
    change(folder)
    assert read_plan(out, source, 3) is None


@pytest.mark.parametrize("text", ["", "[1]", "[" * 100_000])
def test_a_damaged_plan_is_none(folder, tmp_path, text):
    source, out = Source(folder), tmp_path / "out"
    kept(out, source)
    plan_file(out, source).write_text(text)
    assert read_plan(out, source, 3) is None


def test_a_list_that_changed_is_read_again(folder, tmp_path):
    lines = folder / "captions.jsonl"
    lines.write_text('{"file_name": "part0/0\u2028.png", "captions": ["one"]}\n')
    source, out = Source(aged(folder)), tmp_path / "out"
    assert kept(out, source).num_records == 1
    assert read_plan(out, source, 3) is not None
    lines.write_text(lines.read_text().replace("one", "two"))
    assert read_plan(out, source, 3) is None


@pytest.mark.parametrize("change", ["the list", "captions of a source", "a folder of a source", None])
def test_of_several_sources_each_one_is_watched(folder, tmp_path, tmp_path_factory, change):
    far = tmp_path_factory.mktemp("far") / "photos"
    (far / "a" / "b").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(far / "a" / "b" / "1.png")
    (far / "captions.jsonl").write_text('{"file_name": "a/b/1.png", "captions": ["x"]}\n')
    aged(far)
    (tmp_path / "lists").mkdir()
    listed = tmp_path / "lists" / "sources.yaml"
    listed.write_text(f"sources: [{{data: ../data}}, {{data: {far}}}]")
    aged(tmp_path / "lists")
    source, out = Source(listed), tmp_path / "out"
    kept(out, source)
    plan = read_plan(out, source, 3)
    assert [one for block in range(3) for one in plan.read(block)] == list(open_data(source).records)
    if change == "the list":
        listed.write_text(listed.read_text().replace("../data", "../data, name: other"))
    elif change == "captions of a source":
        (far / "captions.jsonl").write_text('{"file_name": "a/b/1.png", "captions": ["another"]}\n')
    elif change == "a folder of a source":
        (far / "a" / "c").mkdir()
    assert (read_plan(out, source, 3) is None) == (change is not None)


def test_what_is_too_new_is_read_again_once(folder, tmp_path, monkeypatch):
    source, out = Source(folder), tmp_path / "out"
    os.utime(folder / "part0")
    first = kept(out, source)
    assert read_plan(out, source, 3) is None
    monkeypatch.setattr(data_plan, "DOUBT_NANOSECONDS", -(10**9))
    second = kept(out, source)
    assert second.records == first.records  # another task may be reading it
    assert read_plan(out, source, 3) == second
    assert len(list(out.iterdir())) == 2


def test_other_sources_blocks_and_damage(folder, tmp_path):
    source, out = Source(folder), tmp_path / "out"
    plan = kept(out, source)
    assert read_plan(out, source, 4) is None
    assert read_plan(out, Source(folder, caption_column="none"), 3) is None
    assert read_plan(tmp_path / "none", source, 3) is None
    content = bytearray(plan.records.read_bytes())
    content[plan.blocks[1][0] + 4] ^= 1
    plan.records.write_bytes(content)
    plan.read(0)
    with pytest.raises(InputError, match=r"\.records: block 1 is damaged; delete it .* the same command"):
        plan.read(1)
    plan.records.write_bytes(content[:-1])
    assert read_plan(out, source, 3) is None
    file = plan_file(out, source)
    for text in ("", "[]", "{}", file.read_text()[:-20], json.dumps({**json.loads(file.read_text()), "version": 2})):
        file.write_text(text)
        assert read_plan(out, source, 3) is None


class Streamed:
    """An image that is nowhere on disk."""


def test_images_that_no_file_can_name_stay_in_memory(folder, tmp_path):
    source, out = Source(folder), tmp_path / "out"
    out.mkdir()
    plan = data_plan.DataPlan(
        root=folder, digest="a", num_records=1, block_records=3, records=(Record("a", Streamed(), ()),)
    )
    assert keep_plan(out, source, plan) is plan
    assert list(out.iterdir()) == []


def test_memory_of_a_kept_plan_does_not_grow_with_the_records(tmp_path):
    """A thousand blocks of a hundred records: 60 bytes a record would be 6 MB."""
    out = tmp_path / "out"
    out.mkdir()
    records = [Record(f"folder/{index:06d}.jpg", Path(f"data/folder/{index:06d}.jpg"), ()) for index in range(100_000)]
    plan = data_plan.DataPlan(
        root=Path("data"), digest="a", num_records=100_000, block_records=1000, records=records, files=()
    )
    keep_plan(out, Source(Path("data")), plan)
    value = json.loads(plan_file(out, Source(Path("data"))).read_text())
    value["watched"] = {}
    plan_file(out, Source(Path("data"))).write_text(json.dumps(value))
    tracemalloc.start()
    again = read_plan(out, Source(Path("data")), 1000)
    assert [again.read(block)[-1].key for block in (0, 99)] == ["folder/000999.jpg", "folder/099999.jpg"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_500_000

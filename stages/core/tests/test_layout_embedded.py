"""Images inside Parquet files and saved data sets."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from lavit_core.data import Source, open_data
from lavit_core.errors import InputError
from lavit_core.images import open_rgb

from .layout_writers import NUM_IMAGES, jpeg, link_images, write_parquet, write_saved


def test_splits_of_parquet_and_saved_data_must_be_chosen(photos, tmp_path):
    folder = write_parquet(photos, tmp_path / "parquet")
    (folder / "data" / "train-00001-of-00002.parquet").rename(folder / "data" / "test-00000-of-00001.parquet")
    write_saved(photos, tmp_path / "saved" / "train")
    write_saved(photos, tmp_path / "saved" / "test")
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for path in (folder, tmp_path / "saved"):
        with pytest.raises(InputError, match=r"holds the splits test, train; give --split NAME"):
            open_data(path)
    assert len(open_data(Source(folder, split="train")).records) == NUM_IMAGES // 2
    assert len(open_data(Source(folder, split="all")).records) == NUM_IMAGES
    assert len(open_data(Source(tmp_path / "saved", split="test")).records) == NUM_IMAGES
    both = open_data(Source(tmp_path / "saved", split="all"))
    assert {record.key.split("/")[0] for record in both.records} == {"train", "test"}
    assert len(both.records) == 2 * NUM_IMAGES


def test_images_without_names_have_numbers(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = {"jpg": [jpeg(), jpeg(), None], "txt": ["a", "b", "c"]}
    pq.write_table(pa.table(rows), tmp_path / "00000.parquet")
    opened = open_data(tmp_path)
    assert [record.key for record in opened.records] == [f"00000/{row:08d}" for row in range(3)]
    assert open_rgb(opened.records[1].image).size == (8, 8)
    with pytest.raises(InputError, match=r"00000.parquet: row 2 of row group 0: not a readable image \(the cell is em"):
        open_rgb(opened.records[2].image)


def test_a_row_group_is_read_once_by_all_threads(photos, tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet")
    records = open_data(write_parquet(photos, tmp_path / "parquet")).records
    read, groups = pq.ParquetFile.read_row_group, []

    def slowly(self, group, *arguments, **options):
        groups.append(group)
        time.sleep(0.05)
        return read(self, group, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", slowly)
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda record: record.image.read_bytes(), records))
    assert len(images) == NUM_IMAGES
    assert len(groups) == len({(record.image.file, record.image.group) for record in records})


def test_parquet_without_captions_or_images_is_refused(photos, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "out"
    folder.mkdir()
    pq.write_table(pa.table({"image": [jpeg()], "label": [1]}), folder / "x.parquet")
    with pytest.raises(InputError, match=r"x.parquet: no column of captions, found 'image', 'label'; give --cap"):
        open_data(folder)
    assert len(open_data(Source(folder, caption_column="none")).records) == 1
    pq.write_table(pa.table({"label": [1]}), folder / "x.parquet")
    with pytest.raises(InputError, match=r"x.parquet: no column of images, found 'label'"):
        open_data(folder)
    link_images(photos, folder)
    assert "x.parquet not read" in open_data(folder).notes[0]
    (folder / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"x.parquet: not a readable Parquet file"):
        open_data(folder / "x.parquet")


@pytest.mark.parametrize(("library", "message"), [("pyarrow", "need pyarrow"), ("datasets", "the `datasets` library")])
def test_a_library_that_is_not_installed_is_named(photos, tmp_path, monkeypatch, library, message):
    folder = (write_parquet if library == "pyarrow" else write_saved)(photos, tmp_path / "out")
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"{message}, which is not installed; pip install 'lavit-core\[") as caught:
        open_data(folder)
    assert "\n" not in str(caught.value)


def test_a_cell_with_a_path_alone_says_so(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"bytes": None, "path": "/photos/1.jpg"}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind), "text": ["a dog"]}), tmp_path / "0.parquet")
    [record] = open_data(tmp_path).records
    with pytest.raises(OSError, match=r"has the path .* and no bytes"):
        record.image.read_bytes()


def images_of(folder, split=None):
    return {record.key: record.captions for record in open_data(Source(folder, split=split)).records}


def test_files_of_one_name_in_several_folders_keep_their_rows_apart(tmp_path):
    """As the hub converts data sets: train/0000.parquet, test/0000.parquet."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        rows = {"image": [jpeg(), jpeg()], "text": [f"{split} one", f"{split} two"]}
        pq.write_table(pa.table(rows), tmp_path / split / "0000.parquet")
    assert images_of(tmp_path, "all") == {
        "test/0000/00000000": ("test one",),
        "test/0000/00000001": ("test two",),
        "train/0000/00000000": ("train one",),
        "train/0000/00000001": ("train two",),
    }
    assert list(images_of(tmp_path, "train")) == ["0000/00000000", "0000/00000001"]


def test_texts_in_columns_of_different_names_are_refused(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"image": [jpeg()], "text": ["x"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [jpeg()], "caption": ["y"]}), tmp_path / "b.parquet")
    said = r"b\.parquet: captions are in column 'caption', but in .*a\.parquet in column 'text'; rename one of them"
    with pytest.raises(InputError, match=said):
        open_data(tmp_path)
    pq.write_table(pa.table({"image": [jpeg()], "text": ["y"], "type": ["z"]}), tmp_path / "b.parquet")
    assert images_of(tmp_path) == {"a/00000000": ("x",), "b/00000000": ("y",)}


def test_splits_of_saved_data_with_columns_of_different_names_are_refused(tmp_path):
    datasets = pytest.importorskip("datasets")
    for split, column in (("train", "text"), ("val", "caption")):
        rows = {"image": [{"bytes": jpeg(), "path": None}], column: ["x"]}
        features = datasets.Features({"image": datasets.Image(), column: datasets.Value("string")})
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / split)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "val"]}')
    with pytest.raises(InputError, match=r"captions are in column 'caption', but in .* in column 'text'"):
        open_data(Source(tmp_path, split="all"))


def test_a_column_of_lists_of_images_is_refused_and_bytes_of_one_length_are_read(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    kind = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    rows = pa.array([[{"bytes": jpeg(), "path": "a.jpg"}]], kind)
    pq.write_table(pa.table({"images": rows, "text": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: column 'images' is list<.*, expected one image or one name"):
        open_data(Source(tmp_path, image_column="images"))
    fixed = pa.array([jpeg()], pa.binary(len(jpeg())))
    pq.write_table(pa.table({"image": fixed, "text": ["x"]}), tmp_path / "a.parquet")
    [record] = open_data(tmp_path).records
    assert open_rgb(record.image).size == (8, 8)


def test_a_data_set_without_rows_is_refused(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"image": [jpeg()], "text": ["x"]}).slice(0, 0), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no image in it, expected at least one"):
        open_data(tmp_path)

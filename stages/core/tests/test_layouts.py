"""The same images, captions and questions, written in each layout, are the same records."""

import json
import os
import tarfile
import unicodedata

import pytest
from lavit_core.data import Source, open_data, scan_data
from lavit_core.errors import InputError
from lavit_core.images import open_rgb
from PIL import Image

from .layout_writers import (
    NUM_IMAGES,
    WRITERS,
    add_member,
    link_images,
    pairs,
    texts_of,
    write_csv,
    write_csv_of_bare_names,
    write_metadata_csv,
    write_table,
    write_txt,
)


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_gives_the_same_records(layout, photos, tmp_path):
    expected, found = open_data(photos.root), open_data(WRITERS[layout](photos, tmp_path / "out"))
    # save_to_disk keeps the last part of an image's path alone.
    folder = "images/" if layout.startswith("saved") else ""
    assert texts_of(found) == [(key.removeprefix(folder), captions) for key, captions in texts_of(expected)]
    for record, other in zip(found.records, expected.records, strict=True):
        assert open_rgb(record.image).tobytes() == open_rgb(other.image).tobytes()


def test_digests_follow_content_and_not_the_layout(photos, tmp_path):
    digests = {
        open_data(WRITERS[layout](photos, tmp_path / str(place))).digest
        for place, layout in enumerate(WRITERS)
        if layout not in ("own", "parquet", "parquet file", "saved", "saved splits")
    }
    assert len(digests) == 1
    (tmp_path / "1" / "images" / "000000000000.txt").write_text("another\n")
    assert open_data(tmp_path / "1").digest not in digests


def test_our_own_digest_stays_what_it_was(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"1234567")
    (tmp_path / "captions.jsonl").write_text('{"file_name": "images/a.png", "captions": ["x", ""]}\n')
    (tmp_path / "questions.jsonl").write_text(
        '{"question_id": 1, "file_name": "images/a.png", "question": "what?", "answer": "x"}\n'
    )
    assert open_data(tmp_path).digest == "eeaacb9b8407b892349cd4ae80699a1b4080297450d8654d5d2d30b8db8396d2"
    (tmp_path / "captions.jsonl").unlink()
    (tmp_path / "questions.jsonl").unlink()
    assert open_data(tmp_path).digest == "e3648a16ea7e4dd9f8ccfb0e5a81068c02905ef30ff3bd15f2ebe198924cb9c6"


def test_what_was_guessed_is_said_once(photos, tmp_path, capfd):
    folder = write_csv_of_bare_names(photos, tmp_path / "out")
    open_data(folder)
    open_data(folder)
    said = capfd.readouterr().err
    assert said.count("column 'image' names the image (--image-column); 'caption' holds captions") == 1
    assert "images are in images/" in said


def test_columns_can_be_named(photos, tmp_path):
    link_images(photos, tmp_path / "out")
    rows = [[name, "wrong", text, "x"] for name, text in pairs(photos)]
    write_table(tmp_path / "out" / "list.csv", [["where", "text", "what", "path"], *rows])
    found = open_data(Source(tmp_path / "out", image_column="where", caption_column="what"))
    assert texts_of(found) == texts_of(open_data(photos.root))
    bare = open_data(Source(tmp_path / "out", image_column="where", caption_column="none"))
    assert {record.captions for record in bare.records} == {()}
    with pytest.raises(InputError, match=r"no column 'wher', found 'where', 'text'.*--image-column NAME"):
        open_data(Source(tmp_path / "out" / "list.csv", image_column="wher"))


def test_a_list_that_would_be_read_without_captions_is_refused(photos, tmp_path):
    link_images(photos, tmp_path / "out")
    write_table(tmp_path / "out" / "metadata.csv", [["file_name", "label"], *pairs(photos)])
    with pytest.raises(
        InputError, match=r"metadata.csv: no column of captions, found 'file_name', 'label'; give --cap"
    ):
        open_data(tmp_path / "out")


def test_a_list_that_is_not_known_is_named(photos, tmp_path):
    link_images(photos, tmp_path / "out")
    (tmp_path / "out" / "odd.csv").write_text("x,y\n1,2\n")
    opened = open_data(tmp_path / "out")
    assert opened.layout == "images"
    assert "odd.csv not read" in opened.notes[0]


def test_several_tables_are_named(photos, tmp_path):
    write_csv(photos, tmp_path / "out")
    write_table(tmp_path / "out" / "more.tsv", [["image", "text"], *pairs(photos)], "\t")
    with pytest.raises(InputError, match=r"2 tables of images \(list.csv, more.tsv\); give one of them"):
        open_data(tmp_path / "out")
    assert texts_of(open_data(tmp_path / "out" / "more.tsv")) == texts_of(open_data(photos.root))


def test_a_folder_of_metadata_splits_is_named(photos, tmp_path):
    write_metadata_csv(photos, tmp_path / "out" / "train")
    with pytest.raises(InputError, match=r"holds train; give one of them"):
        open_data(tmp_path / "out")


def test_sidecars_say_what_is_missing(photos, tmp_path):
    folder = write_txt(photos, tmp_path / "out")
    (folder / "images" / "000000000001.txt").unlink()
    (folder / "README.txt").write_text("how these were made")
    opened = open_data(folder)
    assert opened.layout == "sidecars"
    assert "1 text files belong to no image and are not read (first: README.txt)" in opened.notes
    assert any(f"{NUM_IMAGES - 1} of {NUM_IMAGES} images have one" in line for line in opened.notes)
    (folder / "images" / "000000000002.txt").rename(folder / "images" / "000000000002.TXT")
    assert open_data(folder) == opened
    (folder / "images" / "000000000002.TXT").rename(folder / "images" / "000000000002 .txt")
    _, problems = scan_data(folder)
    assert "no image has this name, but images/000000000002.jpg almost" in problems[0].message


def test_json_sidecars_of_img2dataset(photos, tmp_path):
    folder = tmp_path / "out"
    link_images(photos, folder, "00000")
    for name, texts in photos.first_captions.items():
        (folder / "00000" / name).with_suffix(".json").write_text(json.dumps({"caption": texts[0], "url": "x"}))
    (folder / "00000_stats.json").write_text("{}")
    found = open_data(folder)
    assert [record.captions for record in found.records] == [tuple(texts) for texts in photos.first_captions.values()]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("images/a.jpg,x,y", r"list.csv:14: 3 columns, expected the 2 of the first line"),
        ("../a.jpg,x", r"list.csv:14: path \"../a.jpg\" leads out of the data folder"),
        ("images/gone.jpg,x", r"images/gone.jpg: no such image, yet list.csv names it"),
        ('images/a.jpg,"x', r"list.csv:14: not valid CSV"),
        ("images/\udcff.jpg,x", r"list.csv:\d+: not valid CSV .*utf-8|not readable as UTF-8"),
    ],
)
def test_bad_table_lines_name_file_and_line(photos, tmp_path, line, message):
    folder = write_csv(photos, tmp_path / "out")
    with open(folder / "list.csv", "a", encoding="utf-8", errors="surrogateescape") as handle:
        handle.write(line + "\n")
    with pytest.raises(InputError, match=message):
        open_data(folder)


@pytest.mark.parametrize(
    ("on_disk", "listed", "how"),
    [
        (unicodedata.normalize("NFD", "Müller.jpg"), "Müller.jpg", "Unicode's NFD"),
        ("Müller.jpg", unicodedata.normalize("NFD", "Müller.jpg"), "Unicode's NFC"),
        ("images/a.jpg", "images\\a.jpg", r"/ and not \\"),
        ("my cat.jpg", "my%20cat.jpg", "without % codes"),
        ("a.jpg", "a.jpg ", "without blanks"),
        ("a.jpg", "a .jpg", "without blanks"),
        ("a.jpg", "train/a.jpg", "another folder"),
        ("images/a.jpg", "a.jpg", "another folder"),
        ("sub/a.jpg", "images/a.jpg", "another folder"),
        ("../a.jpg", "images/a.jpg", "another folder"),
        ("Sub/A.JPG", "sub/a.jpg", "capital and small letters"),
        ("sub/my cat.jpg", "x\\my%20cat.jpg", "another folder, and plainly spelled"),
    ],
)
def test_near_misses_are_named(tmp_path, on_disk, listed, how):
    root = tmp_path / "data"
    root.mkdir()
    (root / on_disk).parent.mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(root / on_disk, "JPEG")
    row = json.dumps({"file_name": listed, "captions": ["x"]})
    (root / "captions.jsonl").write_text(row + "\n")
    with pytest.raises(InputError, match="no such image") as caught:
        open_data(root)
    assert f"{root / on_disk} is there: write file_name {on_disk} (" in str(caught.value)
    assert how.replace("\\\\", "\\") in str(caught.value)


def test_two_spellings_of_one_path_are_doubles(photos):
    with open(photos.root / "captions.jsonl", "a", encoding="utf-8") as handle:
        handle.write('{"file_name": "./images/000000000001.jpg", "captions": ["again"]}\n')
    with pytest.raises(InputError, match=r":7: ./images/0+1.jpg is images/0+1.jpg of line 2 in another spelling"):
        open_data(photos.root)


@pytest.mark.parametrize("name", ["list.csv", "data.jsonl"])
def test_a_name_that_is_too_long_for_the_disk_is_missing(photos, tmp_path, name):
    folder = {"list.csv": WRITERS["csv"], "data.jsonl": WRITERS["jsonl"]}[name](photos, tmp_path / "out")
    rows = {"list.csv": "path,caption\n{},c\n", "data.jsonl": '{{"image": "{}", "caption": "c"}}\n'}
    (folder / name).write_text(rows[name].format("x" * 300))
    for path in (folder, folder / name):
        assert f"{'x' * 300}: no such image, yet {name} names it" in scan_data(path)[1][0].message


def test_keys_of_another_tool_are_shown(photos):
    (photos.root / "captions.jsonl").write_text('{"picture": "a.jpg", "said": "x"}\n')
    with pytest.raises(InputError, match=r"captions.jsonl:1: file_name is \"\", expected a string; its keys are pict"):
        open_data(photos.root)


def test_pipes_are_named_and_not_waited_for(photos, tmp_path):
    folder = write_txt(photos, tmp_path / "out")
    (folder / "images" / "000000000001.txt").unlink()
    os.mkfifo(folder / "images" / "000000000001.txt")
    os.mkfifo(folder / "list.csv")
    os.mkfifo(folder / "list.json")
    with pytest.raises(InputError, match=r"000000000001.txt: not readable as UTF-8 text \(not a regular file\)"):
        open_data(folder)


def test_options_that_a_layout_does_not_read_are_said(photos, tmp_path):
    said = "has no effect on the layout"
    for layout, options, unread in (
        ("txt", {"split": "train", "caption_column": "text", "image_column": "x"}, 3),
        ("coco", {"split": "train", "caption_column": "text"}, 2),
        ("karpathy", {"split": "train", "caption_column": "raw"}, 1),
        ("csv", {"split": "all", "image_column": "path", "caption_column": "caption"}, 0),
        ("parquet", {"image_column": "image", "split": "train"}, 0),
        ("saved", {"image_column": "image", "split": "train"}, 1),
    ):
        data = open_data(Source(WRITERS[layout](photos, tmp_path / layout), **options))
        assert sum(said in note for note in data.notes) == unread, (layout, data.notes)


@pytest.mark.parametrize("layout", ["lavit", "coco", "karpathy", "csv", "txt", "tars", "parquet", "saved"])
def test_without_captions_no_layout_gives_any(layout, photos, tmp_path):
    folder = photos.root if layout == "lavit" else WRITERS[layout](photos, tmp_path / "out")
    data = open_data(Source(folder, caption_column="none"))
    assert len(data.records) == NUM_IMAGES
    assert not any(record.captions for record in data.records)


def test_a_named_column_is_looked_for_in_lists_and_in_json_beside_text_files(photos, tmp_path):
    link_images(photos, tmp_path / "list")
    write_table(tmp_path / "list" / "list.csv", [["where", "was"], *pairs(photos)])
    notes = open_data(tmp_path / "list").notes
    assert any("list.csv not read; `lavit data inspect" in note for note in notes)
    with pytest.raises(InputError, match=r"list.csv: no column of image names, found 'where', 'was'; give --image-col"):
        open_data(Source(tmp_path / "list", caption_column="was"))
    assert open_data(Source(tmp_path / "list", image_column="where", caption_column="was")).layout == "table"
    (tmp_path / "both").mkdir()
    image = photos.root / next(iter(open_data(photos.root).records)).key
    (tmp_path / "both" / f"1{image.suffix}").write_bytes(image.read_bytes())
    (tmp_path / "both" / "1.txt").write_text("alt text")
    (tmp_path / "both" / "1.json").write_text(json.dumps({"caption": "alt text", "again": "a better one"}))
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for file in sorted((tmp_path / "both").iterdir()):
            add_member(tar, file.name, file.read_bytes())
    for place in (tmp_path / "both", tmp_path / "0.tar"):
        assert open_data(place).records[0].captions == ("alt text",)
        assert open_data(Source(place, caption_column="again")).records[0].captions == ("a better one",)


def test_a_run_directory_is_no_data(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("command: tokenize-images")
    with pytest.raises(InputError, match="a run or token directory"):
        open_data(tmp_path)


def test_a_column_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("image,caption,caption\n0.jpg,a,b\n")
    with pytest.raises(InputError, match=r"a\.csv: column 'caption' stands twice, and one of them would be lost"):
        open_data(tmp_path)

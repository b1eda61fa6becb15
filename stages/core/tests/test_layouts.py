"""The same images, captions and questions, written in each layout, are the same records."""

import dataclasses
import io
import json
import os
import re
import sys
import tarfile
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lavit_core.data import Data, Source, open_data, scan_data
from lavit_core.errors import InputError
from lavit_core.images import open_rgb
from PIL import Image

from .layout_writers import (
    NUM_IMAGES,
    WRITERS,
    Photos,
    Writer,
    add_member,
    coco_of,
    json_lines,
    karpathy_of,
    link_images,
    make_photos,
    pairs,
    write_coco,
    write_csv,
    write_csv_of_bare_names,
    write_karpathy,
    write_metadata_csv,
    write_parquet,
    write_saved,
    write_table,
    write_tars,
    write_txt,
)


@pytest.fixture(name="photos")
def photos_fixture(tmp_path: Path) -> Photos:
    return make_photos(tmp_path / "photos")


def texts_of(data: Data) -> list[tuple[str, tuple[str, ...]]]:
    return [(record.key, record.captions) for record in data.records]


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


def test_questions_of_a_table(photos, tmp_path):
    link_images(photos, tmp_path / "out")
    rows: list[dict[str, object]] = [
        {"id": 7, "image": "images/000000000003.jpg", "question": "who?", "answer": "dog", "type": "who"},
        {"id": 9, "image": "images/000000000003.jpg", "question": "what?", "answer": "red", "type": None},
    ]
    (tmp_path / "out" / "asked.jsonl").write_text(json_lines(rows))
    opened = open_data(tmp_path / "out")
    assert [(q.question_id, q.key, q.question, q.answer, q.kind) for q in opened.questions] == [
        (7, "images/000000000003.jpg", "who?", "dog", "who"),
        (9, "images/000000000003.jpg", "what?", "red", None),
    ]
    assert len(opened.records) == 1


def asked_of(photos: Photos) -> list[dict[str, object]]:
    return [
        {
            "question_id": 10 * number + turn,
            "file_name": f"images/{name}",
            "question": f"what is {turn}?",
            "answer": f"{texts[turn]}",
            "kind": "other",
        }
        for number, (name, texts) in enumerate(photos.captions.items())
        for turn in range(2)
    ]


def write_own_questions(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    (out / "questions.jsonl").write_text(json_lines(asked_of(photos)), encoding="utf-8")
    return out


def write_vqa(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    asked = [
        {"question_id": row["question_id"], "image_id": int(str(row["file_name"])[7:19]), "question": row["question"]}
        for row in asked_of(photos)
    ]
    answers = [
        {
            "question_id": row["question_id"],
            "multiple_choice_answer": row["answer"],
            "answers": [{"answer": "no"}],
            "answer_type": "other",
        }
        for row in asked_of(photos)
    ]
    for name, rows in {"questions": asked, "annotations": answers}.items():
        (out / f"v2_{name}.json").write_text(json.dumps({"data_subtype": "val2014", name: rows}), encoding="utf-8")
    return out


def write_question_table(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    rows = [
        {"image" if name == "file_name" else name: value for name, value in row.items()} for row in asked_of(photos)
    ]
    (out / "asked.jsonl").write_text(json_lines(rows), encoding="utf-8")
    return out


def write_llava_of_one_turn(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    rows = [
        {"id": row["question_id"], "image": row["file_name"], "conversations": conversation(row)}
        for row in asked_of(photos)
    ]
    (out / "llava.json").write_text(json.dumps(rows), encoding="utf-8")
    return out


def conversation(*rows: dict[str, object]) -> list[dict[str, object]]:
    said = [("human", row["question"], "gpt", row["answer"]) for row in rows]
    turns = [(who, text) for human, asks, gpt, answers in said for who, text in ((human, asks), (gpt, answers))]
    return [
        {"from": who, "value": f"<image>\n{text}" if place == 0 else text} for place, (who, text) in enumerate(turns)
    ]


QUESTION_WRITERS: dict[str, Writer] = {
    "vqa": write_vqa,
    "vqa file": lambda photos, out: write_vqa(photos, out) / "v2_questions.json",
    "table": write_question_table,
    "llava": write_llava_of_one_turn,
}


@pytest.mark.parametrize("layout", QUESTION_WRITERS)
def test_every_layout_gives_the_same_questions(layout, photos, tmp_path):
    expected = open_data(write_own_questions(photos, tmp_path / "own"))
    found = open_data(QUESTION_WRITERS[layout](photos, tmp_path / "out"))
    assert texts_of(found) == texts_of(expected)
    # Conversations have no kinds.
    wanted = [dataclasses.replace(q, kind=None if layout == "llava" else q.kind) for q in expected.questions]
    assert list(found.questions) == wanted


@pytest.mark.parametrize("shape", ["llava", "sharegpt"])
def test_turns_of_a_conversation_are_questions_with_those_before(shape, photos, tmp_path):
    link_images(photos, tmp_path / "out")
    rows = asked_of(photos)
    talks = []
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        said = conversation(first, second)
        if shape == "llava":
            talks.append({"id": "same", "image": first["file_name"], "conversations": said})
        else:
            names = {"human": "user", "gpt": "assistant"}
            messages = [{"role": "system", "content": "be brief"}]
            messages += [{"role": names[str(one["from"])], "content": str(one["value"])} for one in said]
            talks.append({"images": [first["file_name"]], "messages": messages})
    talks += [{"id": "text", "conversations": conversation(rows[0])}, {**talks[0], "image": ["a.jpg", "b.jpg"]}]
    (tmp_path / "out" / "talks.jsonl").write_text(json_lines(talks), encoding="utf-8")
    found = open_data(tmp_path / "out")
    assert found.layout == "llava"
    assert len(found.questions) == 2 * NUM_IMAGES
    assert len({question.question_id for question in found.questions}) == 2 * NUM_IMAGES
    second = found.questions[3]
    assert (second.question, second.earlier) == ("what is 1?", (("what is 0?", 'a "red", big; dog'),))
    assert found.notes == (
        f"talks.jsonl: 1 of {NUM_IMAGES + 2} conversations have no image and are left out",
        f"talks.jsonl: 1 of {NUM_IMAGES + 2} conversations have several images and are left out",
    )


def test_earlier_turns_in_our_own_layout(photos):
    row = {"question_id": 1, "file_name": "images/000000000000.jpg", "question": "a?", "answer": "b"}
    file = photos.root / "questions.jsonl"
    file.write_text(json_lines([{**row, "earlier": [["who?", "a dog"]]}]))
    assert open_data(photos.root).questions[0].earlier == (("who?", "a dog"),)
    for wrong in ("x", [["a"]], [["a", 1]], None):
        file.write_text(json_lines([{**row, "earlier": wrong}]))
        with pytest.raises(
            InputError, match=r"questions.jsonl:1: earlier is .*, expected a list of \[question, answer\]"
        ):
            open_data(photos.root)


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


def test_questions_without_answers_and_images_are_named(photos, tmp_path):
    folder = write_vqa(photos, tmp_path / "out")
    (folder / "images" / "000000000003.jpg").unlink()
    with pytest.raises(InputError, match=r"v2_questions.json: image_id 3: no image below .* ends in this number"):
        open_data(folder)
    (folder / "v2_annotations.json").unlink()
    with pytest.raises(InputError, match=r"v2_questions.json: questions without answers, expected a JSON file of ann"):
        open_data(folder)


def test_a_json_file_that_was_named_and_is_broken(tmp_path):
    (tmp_path / "captions.json").write_text("{")
    with pytest.raises(InputError, match=r"captions.json: not valid JSON"):
        open_data(tmp_path / "captions.json")
    (tmp_path / "captions.json").write_text("[1]")
    with pytest.raises(InputError, match=r"captions.json: no column of image names, found nothing"):
        open_data(tmp_path / "captions.json")


def make_tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            add_member(tar, name, content)
    return file


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def keys_and_captions(path: Path) -> dict[str, tuple[str, ...]]:
    return {record.key: record.captions for record in open_data(path).records}


def test_members_of_a_tar_need_not_be_adjacent_and_dots_split_no_names(tmp_path):
    members = {"train.v1/0.jpg": jpeg(), "a.b.jpg": jpeg(), "a.c.jpg": jpeg(), "s0.input.jpg": jpeg()}
    members |= {"train.v1/0.txt": b"zero", "a.b.txt": b"b", "a.c.txt": b"c", "s0.outputs.txt": b"out"}
    members |= {"__MACOSX/0.jpg": b"x", "._0.jpg": b"x"}
    found = keys_and_captions(make_tar(tmp_path / "0.tar", members))
    assert found == {
        "train.v1/0.jpg": ("zero",),
        "a.b.jpg": ("b",),
        "a.c.jpg": ("c",),
        "s0.input.jpg": ("out",),
    }


def test_a_text_that_may_belong_to_two_images_is_named(tmp_path):
    file = make_tar(tmp_path / "0.tar", {"s.in.jpg": jpeg(), "s.out.jpg": jpeg(), "s.txt": b"which?"})
    with pytest.raises(InputError, match=r"0.tar: s.in.jpg and s.txt may belong together or not"):
        open_data(file)


def test_equal_names_in_two_tars_are_kept_apart(tmp_path):
    for number in range(2):
        make_tar(tmp_path / f"part-{number}.tar", {"0.jpg": jpeg(), "0.txt": f"{number}".encode()})
    assert keys_and_captions(tmp_path) == {"part-0/0.jpg": ("0",), "part-1/0.jpg": ("1",)}


def test_the_same_name_twice_in_a_tar_is_named(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("x/0.jpg", "x/0.txt", "./x/0.jpg"):
            add_member(tar, name, jpeg())
    with pytest.raises(InputError, match=r"x.tar: x/0.jpg is there twice"):
        open_data(tmp_path)


def test_a_tar_that_is_cut_short_anywhere_is_named(photos, tmp_path):
    folder = write_tars(photos, tmp_path / "out")
    whole = (folder / "00001.tar").read_bytes()
    with tarfile.open(folder / "00001.tar") as tar:
        members = [(member.offset, member.offset_data, member.size) for member in tar]
    ends = {place for header, data, size in members for place in (header, header + 100, data, data + size // 2)}
    for end in sorted(ends):
        (folder / "00001.tar").write_bytes(whole[:end])
        _, problems = scan_data(folder)
        assert any("00001.tar: cut short or damaged" in problem.message for problem in problems), end
    damaged = bytearray(whole)
    damaged[members[2][0] + 20] ^= 255
    (folder / "00001.tar").write_bytes(damaged)
    assert "00001.tar: cut short or damaged" in scan_data(folder)[1][0].message


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        (tarfile.REGTYPE, 2**70, r"leads out of the file"),
        (tarfile.REGTYPE, -5, r"of -5 bytes leads out of the file"),
        (tarfile.GNUTYPE_LONGNAME, 2**62, "MemoryError"),
        (tarfile.GNUTYPE_LONGNAME, 2**70, "index-sized"),
        (tarfile.XHDTYPE, 0, "recursion"),
    ],
)
def test_numbers_in_a_tar_that_cannot_be_are_named(tmp_path, kind, size, message):
    member = tarfile.TarInfo("0.png")
    member.type, member.size = kind, size
    times = 5000 if kind == tarfile.XHDTYPE else 1  # headers of headers of headers
    (tmp_path / "x.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) * times + bytes(1024))
    data, problems = scan_data(tmp_path / "x.tar")
    assert len(data.records) == 0
    assert re.search(rf"x.tar: cut short or damaged after its start .*{message}", problems[0].message)


@pytest.mark.parametrize("numbers", ["0,4", "0,x"])
def test_sparse_members_are_named(tmp_path, numbers):
    """Their bytes do not stand in the tar as they are: holes are left out."""
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        add_member(tar, "a.txt", b"red", pax_headers={"GNU.sparse.map": numbers, "GNU.sparse.size": "4"})
    message = r"x.tar: (member a.txt is sparse, expected all its bytes|cut short or damaged after its start \(invalid)"
    assert re.match(f".*{message}", scan_data(tmp_path / "x.tar")[1][0].message)


def test_names_that_lead_out_and_links_are_not_read(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add_member(tar, "a.jpg", jpeg())
        add_member(tar, "link.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add_member(tar, "a.txt", b"red")
    opened = open_data(tmp_path)
    assert [record.key for record in opened.records] == ["a.jpg"]
    assert "x.tar: 1 links or folders named like images are not read" in opened.notes
    for name in ("../../evil.jpg", "/abs.jpg"):
        make_tar(tmp_path / "x.tar", {name: jpeg()})
        with pytest.raises(InputError, match=r"x.tar: member .*(leads out of the data folder|/abs.jpg)"):
            open_data(tmp_path)


def test_counts_of_img2dataset_are_compared(photos, tmp_path):
    folder = write_tars(photos, tmp_path / "out", stats=True)
    assert "00000.tar: 3 of 4 images were downloaded" in open_data(folder).notes
    (folder / "00000_stats.json").write_text('{"count": 4, "successes": 4}')
    with pytest.raises(InputError, match=r"00000.tar: 3 images, but 00000_stats.json counts 4"):
        open_data(folder)
    for wrong in ('{"count": Infinity, "successes": 1}', "[" * 100_000):
        (folder / "00000_stats.json").write_text(wrong)
        with pytest.raises(InputError, match=r"00000_stats.json: count and successes can't be read"):
            open_data(folder)
    (folder / "00000_stats.json").unlink()
    assert "00000.tar has no 00000_stats.json beside it: its download was not finished" in open_data(folder).notes
    for file in folder.iterdir():
        file.unlink()
    make_tar(folder / "00000.tar", {})
    (folder / "00000_stats.json").write_text('{"count": 3, "successes": 0}')
    with pytest.raises(InputError, match=r"00000.tar: no image"):
        open_data(folder)


def test_tars_that_are_missing_or_compressed_are_named(photos, tmp_path):
    folder = write_tars(photos, tmp_path / "out")
    with pytest.raises(
        InputError, match=r"00002.tar: no such file, but \{00000..00002\}.tar names it \(1 are missing\)"
    ):
        open_data(folder / "{00000..00002}.tar")
    for file in folder.iterdir():
        file.unlink()
    (folder / "x.tar.gz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"x.tar.gz: compressed, so images can't be read in place"):
        open_data(folder)


def test_an_unreadable_image_in_a_tar_is_named(tmp_path):
    make_tar(tmp_path / "x.tar", {"a.jpg": b"no image"})
    [record] = open_data(tmp_path).records
    with pytest.raises(InputError, match=r"x.tar: a.jpg: not a readable image"):
        open_rgb(record.image)


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


def test_a_cell_with_a_path_alone_says_so(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"bytes": None, "path": "/photos/1.jpg"}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind), "text": ["a dog"]}), tmp_path / "0.parquet")
    [record] = open_data(tmp_path).records
    with pytest.raises(OSError, match=r"has the path .* and no bytes"):
        record.image.read_bytes()


def test_a_run_directory_is_no_data(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("command: tokenize-images")
    with pytest.raises(InputError, match="a run or token directory"):
        open_data(tmp_path)

import json
import os
from pathlib import Path

import pytest
from lavit_core.data import check_out_outside, open_data
from lavit_core.data_report import inspect_data
from lavit_core.errors import InputError, UsageError
from PIL import Image


def image(file, size=(8, 6)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(file)


@pytest.fixture(name="folder")
def folder_fixture(tmp_path):
    for name in ("b", "a", "c"):
        image(tmp_path / "images" / f"{name}.png")
    write(tmp_path / "captions.jsonl", [caption("b", ["two", "é\u2028x"]), caption("a", [])])
    write(tmp_path / "questions.jsonl", [question(7, "c"), question("q", "a", kind="colour")])
    return tmp_path


def caption(name, captions):
    return {"file_name": f"images/{name}.png", "captions": captions}


def question(number, name, **more):
    return {"question_id": number, "file_name": f"images/{name}.png", "question": "what?", "answer": "this", **more}


def write(file, rows):
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def test_reads_captions_and_questions(folder):
    data = open_data(folder)
    assert data.layout == "lavit"
    found = [(record.key, record.captions) for record in data.records]
    assert found == [("images/a.png", ()), ("images/b.png", ("two", "é\u2028x")), ("images/c.png", ())]
    assert all(record.image.is_file() for record in data.records)
    assert [(q.question_id, q.key, q.answer, q.kind) for q in data.questions] == [
        (7, "images/c.png", "this", None),
        ("q", "images/a.png", "this", "colour"),
    ]


def test_empty_captions_are_counted_and_left_out(folder):
    write(folder / "captions.jsonl", [caption("b", ["", " \n"]), caption("a", ["red", ""])])
    data = open_data(folder)
    assert [record.captions for record in data.records] == [("red",), (), ()]
    assert data.num_empty_captions == 3


def test_an_out_folder_inside_the_data_folder_is_refused(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "link").symlink_to(folder)
    for out in (folder, folder / "tokens", folder / "a" / ".." / "tokens", elsewhere / "link" / "tokens"):
        with pytest.raises(UsageError, match=r"--out .*: inside the data folder .*, expected a folder outside it"):
            check_out_outside(out, folder)
    check_out_outside(folder.with_name(f"{folder.name}-tokens"), folder)
    check_out_outside(elsewhere, folder)


def test_either_file_is_enough(folder):
    (folder / "captions.jsonl").unlink()
    assert [record.key for record in open_data(folder).records] == ["images/a.png", "images/c.png"]


def test_bare_folder(tmp_path):
    for name in ("z.JPG", "deep/er/a.webp", ".hidden/x.png", ".x.png"):
        image(tmp_path / name) if not name.endswith("JPG") else Image.new("RGB", (3, 3)).save(tmp_path / name, "JPEG")
    (tmp_path / "notes.txt").write_text("no image")
    data = open_data(tmp_path)
    assert (data.layout, [record.key for record in data.records]) == ("images", ["deep/er/a.webp", "z.JPG"])
    assert data.questions == ()


def test_digest_follows_content(folder):
    before = open_data(folder).digest
    assert open_data(folder).digest == before
    image(folder / "images" / "a.png", (80, 60))
    changed = open_data(folder).digest
    assert changed != before
    write(folder / "captions.jsonl", [caption("b", ["three"]), caption("a", [])])
    assert open_data(folder).digest not in (before, changed)


def test_blank_lines_and_byte_order_mark(folder):
    text = (folder / "captions.jsonl").read_text(encoding="utf-8")
    (folder / "captions.jsonl").write_text("\ufeff" + text.replace("\n", "\r\n\n"), encoding="utf-8")
    assert len(open_data(folder).records) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", r"captions.jsonl:3: not valid JSON"),
        ('{"file_name": "a.png", "captions": [], "captions": ["x"]}', r":3: not valid JSON \(key 'captions' twice"),
        ("[1]", r"captions.jsonl:3: found \[1\], expected an object"),
        ("[" * 100_000, r"captions.jsonl:3: not valid JSON"),
        ('{"captions": []}', r"captions.jsonl:3: file_name is \"\", expected a string"),
        ('{"file_name": "images/c.png", "captions": "x"}', r":3: captions is \"x\", expected a list of strings"),
        ('{"file_name": "images/a.png", "captions": []}', r":3: images/a.png is already on line 2"),
        ('{"file_name": "../a.png", "captions": []}', r":3: file_name \"../a.png\" leads out of the data folder"),
        ('{"file_name": "/a.png", "captions": []}', r"leads out of the data folder"),
        ('{"file_name": "images/none.png", "captions": []}', r"images/none.png: no such image"),
        ('{"file_name": "a.png", "captions": []}', r"/a.png: no such image.*there: write file_name images/a.png"),
    ],
)
def test_bad_captions_name_file_and_line(folder, line, message):
    with open(folder / "captions.jsonl", "a", encoding="utf-8") as handle:
        handle.write(line + "\n")
    with pytest.raises(InputError, match=message) as caught:
        open_data(folder)
    assert "\n" not in str(caught.value)
    assert "lavit data inspect" in str(caught.value)


def test_bytes_that_are_no_text(folder):
    with open(folder / "captions.jsonl", "ab") as handle:
        handle.write(b'{"file_name": "\xff"}\n')
    with pytest.raises(InputError, match=r"captions.jsonl:3: not valid JSON .*utf-8"):
        open_data(folder)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (question(7, "a"), r"questions.jsonl:3: question_id 7 is already on line 1"),
        ({**question(8, "a"), "answer": 3}, r":3: answer is 3, expected a string"),
        (question(None, "a"), r":3: question_id is null"),
        (question(8, "a", kind=4), r"kind 4, expected"),
    ],
)
def test_bad_questions_name_file_and_line(folder, row, message):
    with open(folder / "questions.jsonl", "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=message):
        open_data(folder)


def test_wrong_paths(folder, tmp_path):
    with pytest.raises(InputError, match="found nothing, expected a folder"):
        open_data(tmp_path / "absent")
    with pytest.raises(InputError, match="found a file, expected a folder"):
        open_data(folder / "images" / "a.png")
    assert open_data(folder / "captions.jsonl") == open_data(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no image .* and no captions.jsonl here"):
        open_data(tmp_path / "empty")
    (tmp_path / "empty" / "captions.jsonl").touch()
    with pytest.raises(InputError, match="empty, expected one line per image"):
        open_data(tmp_path / "empty")


def test_a_folder_of_splits_is_named(tmp_path):
    for split in ("train", "heldout"):
        image(tmp_path / split / "a.png")
        write(tmp_path / split / "captions.jsonl", [{"file_name": "a.png", "captions": []}])
    with pytest.raises(InputError, match=r"holds heldout, train; give one of them"):
        open_data(tmp_path)


def test_linked_folders_count_and_links_back_up_end(tmp_path):
    image(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "data" / "sub").mkdir(parents=True)
    image(tmp_path / "data" / "top.png")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "sub" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "elsewhere" / "over").symlink_to(tmp_path / "data" / "sub")
    assert [record.key for record in open_data(tmp_path / "data").records] == ["linked/a.png", "top.png"]


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"b\.png: no such image, only a link that leads nowhere"):
        open_data(tmp_path)


def test_names_and_texts_that_are_no_utf_8(folder, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    try:
        image(Path(os.fsdecode(os.fsencode(bare) + b"/caf\xe9.png")))
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    with pytest.raises(InputError, match=r"the file name b'caf\\xe9\.png' is not UTF-8"):
        open_data(bare)
    assert len(inspect_data(bare, quiet=True)["bad_names"]) == 1
    with open(folder / "captions.jsonl", "a", encoding="utf-8") as handle:
        handle.write('{"file_name": "images/b.png", "captions": ["half \\ud83d"]}\n')
        handle.write('{"file_name": "images/c.png", "captions": ["whole \\ud83d\\ude00"]}\n')
    with pytest.raises(InputError, match=r"captions\.jsonl:\d+: half a character"):
        open_data(folder)
    assert len(inspect_data(folder, quiet=True)["bad_lines"]) == 1

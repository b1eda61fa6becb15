import json

import pytest
from lavit_core.data_report import inspect_data, report_lines
from PIL import Image

from .image_bytes import png_chunk


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


def test_inspect_lists_everything_wrong(folder):
    (folder / "images" / "text.jpg").write_text("no image")
    image(folder / "images" / "unlisted.png")
    with open(folder / "captions.jsonl", "a", encoding="utf-8") as handle:
        for line in ("{", json.dumps(caption("b", [])), json.dumps(caption("gone", []))):
            handle.write(line + "\n")
        handle.write(json.dumps({"file_name": "images/text.jpg", "captions": ["x"]}) + "\n")
    report = inspect_data(folder, quiet=True)
    assert (report["layout"], report["images"], report["captions"], report["questions"]) == ("lavit", 4, 3, 2)
    assert [item["file"] for item in report["unreadable"]] == ["images/text.jpg"]
    assert "not a readable image" in report["unreadable"][0]["reason"]
    assert [len(report[name]) for name in ("missing", "duplicate_keys", "bad_lines")] == [1, 1, 1]
    assert report["unlisted_images"] == 1
    assert report["sizes"]["common"] == [{"width": 8, "height": 6, "images": 3}]
    text = "\n".join(report_lines(report))
    assert "images/text.jpg: not a readable image" in text
    assert "captions.jsonl:3" in text
    assert "images     4 (1 more in no list)" in text


def test_sidecars_are_not_called_nothing_but_images(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a red square")
    lines = report_lines(inspect_data(tmp_path, quiet=True))
    assert lines[0] == f"{tmp_path}: layout sidecars"
    assert "images     1" in lines


def test_long_question_kinds_stand_apart_from_their_counts(folder):
    kinds = ("count", "how many objects are there")
    write(folder / "questions.jsonl", [question(number, "a", kind=kind) for number, kind in enumerate(kinds)])
    lines = report_lines(inspect_data(folder, quiet=True))
    assert "  count                       1" in lines
    assert "  how many objects are there  1" in lines


def test_empty_captions_are_counted(folder):
    write(folder / "captions.jsonl", [caption("b", ["", " \n"]), caption("a", ["red", ""])])
    report = inspect_data(folder, quiet=True)
    assert (report["captions"], report["without_captions"], report["empty_captions"]) == (1, 2, 3)
    assert "captions   1 (2 images have none; 3 empty ones are left out)" in report_lines(report)


def test_images_outside_the_limits_and_warnings_are_counted(tmp_path):
    image(tmp_path / "small.png", (1, 1))
    image(tmp_path / "large.png", (40, 40))
    image(tmp_path / "fine.png")
    # Pillow refuses a text with a wrong checksum; the pixels are read without it.
    content = (tmp_path / "fine.png").read_bytes()
    (tmp_path / "fine.png").write_bytes(content[:33] + png_chunk(b"tEXt", b"a\0b", crc=1) + content[33:])
    report = inspect_data(tmp_path, min_pixels=2, max_pixels=1000, quiet=True)
    assert report["unreadable_kinds"] == {"too large": 1, "too small": 1}
    assert report["image_warnings"] == {"metadata is damaged or too large; the image was read without it": 1}
    assert any(line.startswith("warning    1 time: metadata is damaged") for line in report_lines(report))
    assert inspect_data(tmp_path, quiet=True)["unreadable"] == []

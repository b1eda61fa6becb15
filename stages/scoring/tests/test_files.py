"""Files are written whole, through links, and never in place of something that is not a file."""

import os
from pathlib import Path

import pytest
from lavit_scoring.errors import InputError
from lavit_scoring.files import read_json, read_json_lines, write_json


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "stored").mkdir()
    link = tmp_path / "score.json"
    link.symlink_to("stored/score.json")
    for value in (1, 2):
        write_json(link, value)
        assert link.is_symlink()
        assert read_json(tmp_path / "stored" / "score.json") == value
    assert [file.name for file in (tmp_path / "stored").iterdir()] == ["score.json"]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf[{"image_id": 1}]')
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"image_id": 1}\n')
    assert read_json(tmp_path / "a.json") == read_json_lines(tmp_path / "a.jsonl") == [{"image_id": 1}]


def test_a_pipe_a_folder_and_a_link_to_a_device_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("folder", "pipe", "null"):
        with pytest.raises(InputError, match=f"{name}: can't be written, expected a file name"):
            write_json(tmp_path / name, {})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "null", "pipe"]

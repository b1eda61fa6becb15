"""Rows that survive a kill at any byte, and damage that no kill explains."""

import os
from pathlib import Path

import pytest
from lavit_core.errors import InputError
from lavit_core.json_lines import (
    append_json_lines,
    iterate_json_lines,
    iterate_json_objects,
    read_json_lines,
    write_json_lines,
)


def test_every_cut_leaves_the_rows_before_it_and_room_for_the_next(tmp_path):
    file = tmp_path / "rows.jsonl"
    assert read_json_lines(file) == []
    for number in range(3):
        append_json_lines(file, [{"row": number, "text": "\u2028 ü"}])
    whole = file.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        rows = sum(end <= cut for end in ends)
        assert [row["row"] for row in read_json_lines(file)] == list(range(rows))
        append_json_lines(file, [{"row": "next"}, {"row": "last"}], sync=cut % 2 == 0)
        assert [row["row"] for row in read_json_lines(file)] == [*range(rows), "next", "last"]


def test_damage_before_the_last_line_is_said(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"row": 0}\n{"row": \n{"row": 2}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl:2: not valid JSON .* the file is damaged"):
        read_json_lines(file)
    with pytest.raises(InputError, match=r"rows\.jsonl:2: not valid JSON .*; delete it$"):
        read_json_lines(file, remedy="delete it")


def test_with_sync_the_rows_are_flushed_to_disk(tmp_path, monkeypatch):
    file, seen = tmp_path / "rows.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(file.read_bytes()))
    append_json_lines(file, [{"a": 1}])
    assert seen == []
    append_json_lines(file, [{"b": "ü"}], sync=True)
    assert seen == [b'{"a": 1}\n{"b": "' + "ü".encode() + b'"}\n']


def test_lines_end_at_a_line_feed_only(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"text": "a\u2028b\u2029c\x85d\x1ce"}, {"text": "f"}]
    write_json_lines(file, rows)
    assert "\u2028" in file.read_text(encoding="utf-8")
    assert read_json_lines(file) == rows == [row for _, row in iterate_json_lines(file)]


def test_blank_lines_and_a_byte_order_mark_are_skipped_and_the_last_line_needs_no_break(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n[2]')
    assert list(iterate_json_lines(file)) == [(1, {"a": 1}), (4, [2])]
    with pytest.raises(InputError, match=r"rows\.jsonl:4: found list, expected one JSON object a line"):
        list(iterate_json_objects(file))


@pytest.mark.parametrize(
    ("line", "message"),
    [(b"{", "not valid JSON"), (b'"\xff"', "not valid JSON"), (b"[" * 100_000, "not valid JSON"),
     (rb'"\ud800"', "half a character")],
)  # fmt: skip
def test_a_wrong_line_is_named_and_can_be_collected(tmp_path, line, message):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"1\n" + line + b"\n3\n")
    with pytest.raises(InputError, match=rf"rows\.jsonl:2: {message}"):
        list(iterate_json_lines(file))
    problems = []
    assert list(iterate_json_lines(file, problems.append)) == [(1, 1), (3, 3)]
    assert len(problems) == 1
    assert f"{file}:2: {message}" in problems[0]


@pytest.mark.parametrize("line", [b"{", b"[" * 100_000])
def test_a_damaged_line_of_a_job_s_own_file_is_named(tmp_path, line):
    (tmp_path / "rows.jsonl").write_bytes(b"1\n" + line + b"\n")
    with pytest.raises(InputError, match=r"rows\.jsonl:2: not valid JSON .*; the file is damaged"):
        read_json_lines(tmp_path / "rows.jsonl")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.jsonl: file not found"):
        list(iterate_json_lines(tmp_path / "absent.jsonl"))
    with pytest.raises(InputError, match="can't be read"):
        list(iterate_json_lines(tmp_path))
    with pytest.raises(InputError, match=r"/proc/rows\.jsonl: can't be written"):
        append_json_lines(Path("/proc/rows.jsonl"), [{}])

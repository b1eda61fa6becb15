"""Rows that survive a kill at any byte, and damage that no kill explains."""

import pytest
from lavit_core.errors import InputError
from lavit_core.json_lines import append_json_line, read_json_lines


def test_every_cut_leaves_the_rows_before_it_and_room_for_the_next(tmp_path):
    file = tmp_path / "rows.jsonl"
    assert read_json_lines(file) == []
    for number in range(3):
        append_json_line(file, {"row": number, "text": "\u2028 ü"})
    whole = file.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        rows = sum(end <= cut for end in ends)
        assert [row["row"] for row in read_json_lines(file)] == list(range(rows))
        append_json_line(file, {"row": "next"})
        assert [row["row"] for row in read_json_lines(file)] == [*range(rows), "next"]


def test_damage_before_the_last_line_is_said(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"row": 0}\n{"row": \n{"row": 2}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl:2: not valid JSON .* the file is damaged"):
        read_json_lines(file)

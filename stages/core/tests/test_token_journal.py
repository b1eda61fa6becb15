"""The journal: a line a shard, whole or not there; readers refuse a directory that has one and no manifest."""

import pytest
from lavit_core.errors import InputError
from lavit_core.token_format import ShardEntry, read_manifest
from lavit_core.token_journal import (
    FinishedShard,
    append_shard,
    errors_of,
    journal_folder,
    make_journal_folder,
    read_journal,
    remove_journal,
    rewrite_journal,
)
from lavit_core.verify import verify


def shard(number, *keys):
    entry = ShardEntry(file=f"shard-{number}", samples=3, codes=number, bytes=100, sha256=f"{number:064x}", source="a")
    errors = [{"key": key, "kind": "no image", "reason": "\u2028 no\nimage"} for key in keys]
    return FinishedShard(entry=entry, errors=errors, warnings={"odd": number})


@pytest.fixture
def journal(tmp_path):
    make_journal_folder(tmp_path)
    return journal_folder(tmp_path) / "task-0.jsonl"


def test_lines_come_back_in_order_with_their_errors(tmp_path, journal):
    append_shard(journal, shard(0, "a", "b"))
    append_shard(journal, shard(2))
    append_shard(journal.with_name("task-1.jsonl"), shard(1, "c"))
    append_shard(journal.with_name("task-1.jsonl"), shard(2, "d"))
    found = read_journal(tmp_path)
    assert {name: len(lines) for name, lines in found.items()} == {"shard-0": 1, "shard-1": 1, "shard-2": 2}
    assert found["shard-0"][0].read() == shard(0, "a", "b")
    assert [row["key"] for row in errors_of(found[f"shard-{number}"][-1] for number in range(3))] == list("abcd")


def test_a_line_cut_short_by_a_kill_does_not_count_and_goes_with_the_next(tmp_path, journal):
    append_shard(journal, shard(0))
    whole = journal.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        journal.write_bytes(whole + whole[:cut])
        assert list(read_journal(tmp_path)) == ["shard-0"]
        append_shard(journal, shard(1))
        assert list(read_journal(tmp_path)) == ["shard-0", "shard-1"]


@pytest.mark.parametrize("line", ["{}", "[]", "no json", '{"shard": {"file": "../x"}, "errors": [], "warnings": {}}'])
def test_a_damaged_line_names_file_and_remedy(tmp_path, journal, line):
    append_shard(journal, shard(0))
    at = journal.stat().st_size
    journal.write_text(journal.read_text() + line + "\n")
    with pytest.raises(InputError, match=rf"task-0.jsonl: damaged at byte {at}, .*delete this file"):
        read_journal(tmp_path)


def test_an_unfinished_directory_is_refused(tmp_path, journal):
    append_shard(journal, shard(0))
    for read in (read_manifest, verify):
        with pytest.raises(InputError, match=r"not finished \(journal/ lists .* the same `lavit tokenize-images`"):
            read(tmp_path)
    remove_journal(tmp_path)
    assert list(tmp_path.iterdir()) == []
    remove_journal(tmp_path)


def test_a_journal_can_be_written_anew(tmp_path, journal):
    append_shard(journal, shard(0, "a"))
    append_shard(journal, shard(1, "b"))
    lines = read_journal(tmp_path)
    rewrite_journal(tmp_path, (line.read() for name in ("shard-1",) for line in lines[name]))
    assert [file.name for file in journal.parent.iterdir()] == ["kept.jsonl"]
    rewrite_journal(tmp_path, (line.read() for line in read_journal(tmp_path)["shard-1"]))
    assert read_journal(tmp_path)["shard-1"][0].read() == shard(1, "b")

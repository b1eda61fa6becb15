"""Lines and rows that go to disk where they are many: what is read is what was added, in memory that does not grow."""

import multiprocessing
import os
import random
import tempfile
import tracemalloc

import pytest
from lavit_core import line_store
from lavit_core.errors import InputError
from lavit_core.line_store import LineStore, SortedRows


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(line_store, "MEMORY_BYTES", 4000)
    monkeypatch.setattr(line_store, "BLOCK_LINES", 8)


def stored(lines):
    store = LineStore()
    for line in lines:
        store.append(line)
    return store


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 500])
def test_lines_come_back_in_any_order(count):
    lines = [b"%d" % number * (number % 5) for number in range(count)]
    store = stored(lines)
    assert len(store) == count
    order = random.Random(0).sample(range(count), count)
    assert [store[index] for index in order] == [lines[index] for index in order]
    for start, stop in ((0, count), (3, 5), (6, 9), (count - 3, count), (count, count), (0, count + 10)):
        assert list(store.lines(max(0, start), stop)) == lines[max(0, start) : stop]


def test_ranges_are_read_in_turn_and_while_lines_are_added():
    lines = [b"%03d" % number for number in range(200)]
    store = stored(lines)
    pairs = zip(store.lines(0, 100), store.lines(100, 200), strict=True)
    found = []
    for pair in pairs:
        found.append(pair)
        store.append(b"more")
    assert found == list(zip(lines[:100], lines[100:], strict=True))


def test_forked_processes_read_the_same_file():
    store = stored([b"%03d" % number for number in range(300)])

    def read() -> None:
        found = [store[index] for index in [0, 299, 17] * 500]
        os._exit(found != [b"000", b"299", b"017"] * 500)

    children = [multiprocessing.get_context("fork").Process(target=read) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_rows_are_sorted_and_equal_ones_stay_in_order(count):
    draw = random.Random(1)
    rows = [[draw.choice("ab-/.é\udcff\U0001f600z") * draw.randrange(1, 4), number, None] for number in range(count)]
    found = SortedRows()
    for row in rows:
        found.add(*row)
    assert len(found) == count
    for _ in range(2):
        assert list(found) == sorted(rows, key=lambda row: row[0])


def test_memory_does_not_grow_with_the_rows(monkeypatch):
    monkeypatch.setattr(line_store, "MEMORY_BYTES", 100_000)
    peaks = []
    for count in (4_000, 20_000):
        tracemalloc.start()
        rows, store = SortedRows(), LineStore()
        for number in range(count):
            rows.add(f"{number * 7919 % count:09d}.jpg", number)
        for name, _ in rows:
            store.append(name.encode())
        lines = enumerate(store.lines(0, count))
        assert all(line == b"%09d.jpg" % number for number, line in lines)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 500_000, peaks  # held in memory, 16,000 more rows would be 3 MB


def test_nowhere_to_write_is_named(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        with pytest.raises(InputError, match=r"no folder for temporary files \(No such file.*give one in TMPDIR"):
            stored([b"x" * 100] * 100)

    class Full:
        def write(self, content):
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(line_store, "_temporary_file", Full)
    with pytest.raises(InputError, match=r"can't be written \(No space left on device\); free some space there"):
        stored([b"x" * 100] * 100)

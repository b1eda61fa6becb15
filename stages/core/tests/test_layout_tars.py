"""Tars of webdataset and img2dataset: which text belongs to which image, and tars that are damaged."""

import re
import tarfile
from pathlib import Path

import pytest
from lavit_core.data import open_data, scan_data
from lavit_core.errors import InputError
from lavit_core.images import open_rgb

from .layout_writers import add_member, jpeg, write_tars


def make_tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            add_member(tar, name, content)
    return file


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


def test_capital_letters_in_suffixes_of_texts_change_nothing(tmp_path):
    members = {"a.JPG": jpeg(), "a.TXT": b"hello", "b.jpg": jpeg(), "b.JSON": b'{"caption": "json"}'}
    expected = {"a.JPG": ("hello",), "b.jpg": ("json",)}
    assert keys_and_captions(make_tar(tmp_path / "0.tar", members)) == expected
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in members.items():
        (folder / name).write_bytes(content)
    assert keys_and_captions(folder) == expected


def test_compressed_tars_beside_others_are_named(tmp_path):
    make_tar(tmp_path / "0.tar", {"a.jpg": jpeg()})
    with tarfile.open(tmp_path / "1.tar.gz", "w:gz") as tar:
        add_member(tar, "b.jpg", jpeg())
    assert any("compressed, so not read: 1.tar.gz (of 1)" in line for line in open_data(tmp_path).notes)

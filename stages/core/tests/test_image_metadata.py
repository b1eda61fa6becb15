"""Damaged or too large metadata, which never costs the pixels."""

import collections
import re
import struct
import zlib

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_core.image_metadata import format_of, without_metadata
from lavit_core.image_warnings import count_image_warnings
from lavit_core.images import check_image, open_rgb
from PIL import Image

from .image_bytes import png, png_chunk, saved, tiff, tiff_data

ROWS = b"\0\x01\x02\x03"
LARGE = zlib.compress(bytes(2 << 20))

PNG_CHUNKS = {
    "text of 2 MiB, packed": png_chunk(b"zTXt", b"prompt\0\0" + LARGE),
    "international text of 2 MiB, packed": png_chunk(b"iTXt", b"prompt\0\1\0\0\0" + LARGE),
    "profile of 2 MiB, packed": png_chunk(b"iCCP", b"icc\0\0" + LARGE),
    "80 texts of 1 MB": png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 80,
    "text with a wrong checksum": png_chunk(b"tEXt", b"a\0b", crc=1),
    "EXIF with a wrong checksum": png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0", crc=1),
    "time of three bytes, density of one": png_chunk(b"tIME", bytes(3)) + png_chunk(b"pHYs", bytes(1)),
    "packed text that is no such": png_chunk(b"zTXt", b"a\0\0nothing packed"),
    "unknown chunk with a wrong checksum": png_chunk(b"prVt", b"abc", crc=1),
}


def read(content: bytes) -> tuple[np.ndarray, collections.Counter]:
    counts: collections.Counter[str] = collections.Counter()
    with count_image_warnings(counts):
        return np.asarray(open_rgb(content)), counts


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", PNG_CHUNKS)
def test_png(name, place, tmp_path):
    whole = png((3, 1), 8, 0, ROWS, **{place: PNG_CHUNKS[name]})
    found, counts = read(whole)
    assert found[0, :, 0].tolist() == [1, 2, 3]
    assert sum(counts.values()) <= 1
    (tmp_path / "x.png").write_bytes(whole)
    with count_image_warnings(counts):
        check_image(tmp_path / "x.png")


def test_png_keeps_the_orientation_beside_a_damaged_text():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = png_chunk(b"eXIf", exif.tobytes()[6:])
    bad = png_chunk(b"tEXt", b"a\0b", crc=1)
    assert read(png((3, 1), 8, 0, ROWS, before=turned + bad))[0].shape == (3, 1, 3)
    assert read(png((3, 1), 8, 0, ROWS, before=turned))[0].shape == (3, 1, 3)


def test_metadata_that_was_left_out_is_counted():
    counts = read(png((3, 1), 8, 0, ROWS, before=PNG_CHUNKS["text with a wrong checksum"]))[1]
    assert counts == {"metadata is damaged or too large; the image was read without it": 1}
    assert not read(png((3, 1), 8, 0, ROWS, before=png_chunk(b"tEXt", b"a\0b")))[1]


def test_damaged_pixels_stay_an_error_that_names_the_format():
    bad = png_chunk(b"tEXt", b"a\0b", crc=1)
    for broken in (png((3, 1), 8, 0, ROWS[:2], before=bad), png((3, 1), 8, 0, ROWS, before=bad)[:-30]):
        with pytest.raises(InputError, match="not a readable image"):
            open_rgb(broken)
    palette = png_chunk(b"PLTE", bytes(9))
    for damaged in (palette[:-1] + b"\0", palette.replace(b"PLTE", b"PLTF")):
        with pytest.raises(InputError, match=r"not a readable image"):
            open_rgb(png((3, 1), 8, 3, ROWS, before=damaged + bad))
    with pytest.raises(InputError, match=r"not a readable image \(damaged PNG\)"):
        open_rgb(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(InputError, match=r"not a readable image \(damaged JPEG\)"):
        open_rgb(b"\xff\xd8\xff" + bytes(40))


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))


def exif() -> Image.Exif:
    made = Image.Exif()
    made[0x010F] = "maker" * 20
    return made


def start_of_exif(content: bytes) -> int:
    maker = content.index(b"maker")
    return max(content.rfind(mark, 0, maker) for mark in (b"MM\0*", b"II*\0"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_damaged_exif(kind):
    whole = saved(photo(), kind, exif=exif())
    expected, none = read(whole)
    assert not none
    start, random = start_of_exif(whole), np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(whole)
        for position in (start, *random.integers(start, start + 60, 3)):
            damaged[position] = random.integers(0, 256)
        np.testing.assert_array_equal(read(bytes(damaged))[0], expected)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "AVIF"])
def test_damaged_profiles_and_xmp(kind):
    profile, xmp = np.random.default_rng(1).bytes(3000), b"<x:xmpmeta>" * 9
    whole = saved(photo(), kind, icc_profile=profile, **({} if kind == "TIFF" else {"xmp": xmp}))
    expected = read(whole)[0]
    random = np.random.default_rng(0)
    for payload in (profile[:100], xmp):
        start = whole.find(payload)
        for _ in range(20 if start >= 0 else 0):
            damaged = bytearray(whole)
            for position in random.integers(start, start + len(payload), 3):
                damaged[position] = random.integers(0, 256)
            np.testing.assert_array_equal(read(bytes(damaged))[0], expected)


def test_webp_with_metadata_of_a_wrong_length():
    whole = saved(photo(), "WEBP", exif=exif(), lossless=True)
    start = whole.index(b"EXIF") + 4
    damaged = whole[:start] + struct.pack("<I", 1 << 30) + whole[start + 4 :]
    found, counts = read(damaged)
    np.testing.assert_array_equal(found, np.asarray(photo()))
    assert sum(counts.values()) == 1


def test_tiff_with_a_damaged_tag():
    offset = tiff_data(9)
    entries = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    maker = (271, 2, 101, 1 << 28)  # the maker's name lies far behind the end; Pillow reads no tag after it
    content = tiff([*entries, maker, (273, 4, 1, offset), (277, 3, 1, 1), (279, 4, 1, 2)], b"\x07\xff")
    found, counts = read(content)
    assert found[0, :, 0].tolist() == [7, 255]
    assert counts["metadata is damaged or too large; the image was read without it"] == 1


def test_jpeg_of_damaged_segments():
    whole = saved(photo(), "JPEG", quality=95)
    expected = read(whole)[0]
    random = np.random.default_rng(0)
    heads = (b"Exif\0\0", b"ICC_PROFILE\0", b"MPF\0", b"Photoshop 3.0\0", b"FPXR\0", b"http://ns.adobe.com/xap/1.0/\0")
    for head in heads:
        for _ in range(20):
            segment = head + random.bytes(int(random.integers(0, 40)))
            marker = b"\xff\xe1" if head[:4] in (b"Exif", b"http") else b"\xff\xed" if head[:1] == b"P" else b"\xff\xe2"
            content = whole[:2] + marker + struct.pack(">H", len(segment) + 2) + segment + whole[2:]
            np.testing.assert_array_equal(read(content)[0], expected)


def test_files_without_metadata_are_left_alone():
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        whole = saved(photo(), kind)
        assert format_of(whole[:16]) == kind
        if kind != "JPEG":
            assert without_metadata(whole) is None
    assert format_of(saved(photo(), "TIFF")[:16]) == "TIFF"
    assert format_of(saved(photo(), "AVIF")[:16]) == "AVIF"
    assert format_of(b"no image") is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_any_damage_and_any_cut_ends(kind):
    """Rewriting damaged files fails in no way of its own."""
    random = np.random.default_rng(0)
    whole = saved(photo(), kind, exif=exif())
    for _ in range(300):
        damaged = bytearray(whole[: int(random.integers(1, len(whole) + 1))])
        for position in random.integers(0, min(len(damaged), 200), 3):
            damaged[position] = random.integers(0, 256)
        bare = without_metadata(bytes(damaged))
        assert bare is None or len(bare) <= len(damaged) + 1000


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", "an empty file"), (b" <!DOCTYPE html><p>", "HTML"), (b"\0\0\0\x18ftypheic" + bytes(9), "HEIC")],
)
def test_content_that_is_no_image_is_named(content, found):
    formats = "JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF"
    with pytest.raises(InputError, match=re.escape(f"not a readable image, expected {formats}, found {found}")):
        open_rgb(content)

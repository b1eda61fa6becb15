import collections
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from lavit_core.image_warnings import ImageWarning, count_image_warnings, warning_lines
from lavit_core.images import open_rgb
from PIL import Image

from .image_bytes import saved


def damaged_exif() -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "maker" * 20
    content = bytearray(saved(Image.new("RGB", (8, 8)), "JPEG", exif=exif))
    content[content.index(b"Exif") + 6 + 8] = 99  # many entries, few bytes
    return bytes(content)


def test_pillows_warnings_are_counted_in_every_thread(capfd):
    counts: collections.Counter[str] = collections.Counter()
    with count_image_warnings(counts), ThreadPoolExecutor(2) as pool:
        list(pool.map(open_rgb, [damaged_exif()] * 50))
    assert counts == {"Corrupt EXIF data. Expecting to read N bytes but only got N.": 50}
    assert capfd.readouterr().err == ""


def test_other_warnings_pass_through():
    def warn() -> None:
        for text, kind in (("old", DeprecationWarning), ("tag 5 of 12", ImageWarning), ("tag 6 of 12", ImageWarning)):
            warnings.warn(text, kind, stacklevel=1)

    counts: collections.Counter[str] = collections.Counter()
    with pytest.warns(DeprecationWarning, match="old"), count_image_warnings(counts):
        warn()
    assert counts == {"tag N of N": 2}


def test_lines_begin_with_the_commonest():
    counts = collections.Counter({"b": 1, "a": 1, "c": 3})
    assert warning_lines(counts) == ["3 times: c", "1 time: a", "1 time: b"]

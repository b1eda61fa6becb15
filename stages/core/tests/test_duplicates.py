import os
import tarfile

from lavit_core.data import open_data
from lavit_core.duplicates import find_duplicates
from lavit_core.records import Record
from PIL import Image


def test_equal_bytes_are_found_in_folders_and_tars(tmp_path):
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for name, colour in (("1.png", "red"), ("2.png", "blue"), ("b/3.png", "red"), ("b/4.png", "green")):
        Image.new("RGB", (4, 4), colour).save(folder / name)
    assert find_duplicates(open_data(folder).records, quiet=True) == [("1.png", "b/3.png")]
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("1.png", "2.png", "b/3.png"):
            tar.add(folder / name, name)
    assert find_duplicates(open_data(tmp_path / "0.tar").records, quiet=True) == [("1.png", "b/3.png")]


def test_files_that_cannot_be_read_are_no_duplicates(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    records = [Record(name, tmp_path / name, ()) for name in ("pipe.png", "gone.png", "gone too.png")]
    assert find_duplicates(records, quiet=True) == []

import os
import tarfile

from lavit_core.data import open_data
from lavit_core.data_report import inspect_data, report_lines
from lavit_core.duplicates import find_duplicates, find_shared
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


def test_images_of_two_data_sets_are_compared_byte_for_byte(tmp_path):
    for folder, names in (("train", ("red", "blue", "green")), ("test", ("blue", "black", "red"))):
        (tmp_path / folder).mkdir()
        for number, name in enumerate(names):
            Image.new("RGB", (4, 4), name).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "test" / "broken.png").write_bytes(b"")
    (tmp_path / "train" / "broken.png").symlink_to(tmp_path / "test" / "broken.png")
    test, train = open_data(tmp_path / "test").records, open_data(tmp_path / "train").records
    both = [("0.png", "1.png"), ("2.png", "0.png"), ("broken.png", "broken.png")]
    assert find_shared(test, train, quiet=True) == both
    report = inspect_data(tmp_path / "test", against=tmp_path / "train", quiet=True)
    assert report["shared"][0] == {"file": "0.png", "equal_to": "1.png"}
    lines = report_lines(report)
    assert f"shared     3 images are in {tmp_path / 'train'} too, byte for byte" in lines
    assert "  2.png is 0.png there" in lines
    assert "shared" not in inspect_data(tmp_path / "test", quiet=True)

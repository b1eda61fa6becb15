import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lavit_core import files
from lavit_core.errors import InputError
from lavit_core.files import (
    atomic_folder,
    canonical_json,
    check_out_file,
    file_sha256,
    link_or_copy,
    read_json,
    write_bytes,
    write_json,
)


def content(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_write_replaces_whole_files_only(tmp_path, monkeypatch):
    file = tmp_path / "a"
    write_bytes(file, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(InputError, match=r"a: can't be written \(disk\)"):
        write_bytes(file, b"new")
    assert content(tmp_path) == {"a": b"old"}


def test_a_link_is_written_through_and_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "new-link").symlink_to(tmp_path / "deep" / "new")
    write_bytes(tmp_path / "link", b"new")
    write_bytes(tmp_path / "new-link", b"first")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new-link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "deep" / "new").read_bytes() == b"first"
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-folder").symlink_to("folder")
    with atomic_folder(tmp_path / "to-folder") as scratch:
        (scratch / "x").write_bytes(b"1")
    assert (tmp_path / "to-folder").is_symlink()
    assert content(tmp_path / "folder") == {"x": b"1"}


def test_what_is_not_a_regular_file_is_refused_and_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-device").symlink_to("/dev/null")
    (tmp_path / "loop").symlink_to("loop")
    for name, found in (("pipe", "a pipe"), ("to-device", "a device"), ("loop", "Too many levels of symbolic links")):
        with pytest.raises(InputError, match=f"{name}: .*{found}"):
            write_bytes(tmp_path / name, b"new")
        with pytest.raises(InputError, match=f"--out .*{name}: .*{found}"):
            check_out_file(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert os.path.realpath(tmp_path / "to-device") == "/dev/null"
    assert not os.path.isfile("/dev/null")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: a file, expected a folder"), atomic_folder(tmp_path / "file"):
        pass


def test_a_place_that_takes_no_files_is_one_line_that_names_it():
    with pytest.raises(InputError, match=r"/proc/lavit-test.json: can't be written \(.*\); expected a place"):
        write_json(Path("/proc/lavit-test.json"), {})
    with (
        pytest.raises(InputError, match=r"/proc/lavit: can't be written"),
        atomic_folder(Path("/proc/lavit")),
    ):
        pass


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_one_line_that_says_so(tmp_path):
    with (
        pytest.raises(InputError, match=r"part: can't be written \(No space left on device\); free some space there"),
        atomic_folder(tmp_path / "part"),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"1")
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "part"):
        (tmp_path / "absent").read_bytes()  # another failure inside stays what it is


def test_canonical_json_is_one_text_for_equal_content():
    assert (
        canonical_json({"b": [1, "é"], "a": None})
        == '{"a":null,"b":[1,"é"]}'
        == canonical_json({"a": None, "b": [1, "é"]})
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_read_json_passes_over_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_read_json_names_the_file(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": 2})
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]
    with pytest.raises(InputError, match=r"absent.json: file not found"):
        read_json(tmp_path / "absent.json")
    for bad in (b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "bad.json").write_bytes(bad)
        with pytest.raises(InputError, match=r"bad.json: not valid JSON"):
            read_json(tmp_path / "bad.json")
    with pytest.raises(InputError, match="directory"):
        read_json(tmp_path)


def test_atomic_folder_appears_whole(tmp_path):
    with atomic_folder(tmp_path / "part") as scratch:
        (scratch / "deep").mkdir()
        (scratch / "deep" / "x").write_bytes(b"1")
        os.chmod(scratch / "deep" / "x", 0o600)
        assert not (tmp_path / "part").exists()
    assert content(tmp_path) == {"part/deep/x": b"1"}
    assert (tmp_path / "part" / "deep" / "x").stat().st_mode & 0o777 == 0o666 & ~files.current_umask()


def test_a_failure_inside_leaves_the_old_folder(tmp_path):
    with atomic_folder(tmp_path / "part") as scratch:
        (scratch / "x").write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "part") as scratch:  # noqa: PT012
        (scratch / "x").write_bytes(b"new")
        raise RuntimeError
    assert content(tmp_path) == {"part/x": b"old"}
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "first"):
        raise RuntimeError
    assert [entry.name for entry in tmp_path.iterdir()] == ["part"]


def test_without_exchange_a_failing_rename_brings_the_old_folder_back(tmp_path, monkeypatch):
    with atomic_folder(tmp_path / "part") as scratch:
        (scratch / "x").write_bytes(b"old")
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    with atomic_folder(tmp_path / "part") as scratch:
        (scratch / "x").write_bytes(b"newer")
    assert content(tmp_path) == {"part/x": b"newer"}
    real = os.rename

    def rename(source, target):
        if str(source).endswith(".tmp"):
            raise OSError("disk")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(InputError, match="disk"), atomic_folder(tmp_path / "part") as scratch:
        (scratch / "x").write_bytes(b"newest")
    assert content(tmp_path) == {"part/x": b"newer"}


def test_without_exchange_a_kill_between_the_renames_loses_nothing(tmp_path):
    (tmp_path / ".part.old").mkdir()
    (tmp_path / ".part.old" / "x").write_bytes(b"old")
    (tmp_path / ".part.tmp").mkdir()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "part"):
        raise RuntimeError
    assert content(tmp_path) == {"part/x": b"old"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["part"]


def test_a_reader_always_finds_a_folder(tmp_path):
    stop = threading.Event()
    missed = []

    def read():
        while not stop.is_set():
            missed.append(not (tmp_path / "part").is_dir())

    with atomic_folder(tmp_path / "part"):
        pass
    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(30):
        with atomic_folder(tmp_path / "part"):
            pass
    stop.set()
    thread.join()
    assert not any(missed)


KILLED = """
import sys; from pathlib import Path; from lavit_core.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as folder:
    for name in "abc":
        (folder / name).write_text("0")
print("ready", flush=True)
for turn in range(1, 100_000):
    with atomic_folder(Path(sys.argv[1])) as folder:
        for name in "abc":
            (folder / name).write_text(str(turn))
"""


@pytest.mark.parametrize("wait", [0.0, 0.013, 0.05, 0.1])
def test_killed_at_any_moment(tmp_path, wait):
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "part")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        process.kill()
    found = content(tmp_path / "part")
    assert sorted(found) == ["a", "b", "c"]
    assert len(set(found.values())) == 1


def test_copied_weights_are_links_and_all_else_is_copied_whole(tmp_path, monkeypatch):
    (tmp_path / "from" / "deep").mkdir(parents=True)
    names = ("deep/x.safetensors", "deep/config.json")
    for name in names:
        (tmp_path / "from" / name).write_bytes(b"1")
    (tmp_path / ".to.tmp").mkdir()  # a copy that was killed
    link_or_copy(tmp_path / "from", tmp_path / "to")
    shared = [(tmp_path / "to" / name).samefile(tmp_path / "from" / name) for name in names]
    assert shared == [True, False]
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError))
    link_or_copy(tmp_path / "from", tmp_path / "far")
    assert content(tmp_path / "far") == dict.fromkeys(names, b"1")
    assert not (tmp_path / "far" / names[0]).samefile(tmp_path / "from" / names[0])


def test_copies_have_the_modes_of_the_umask_whatever_the_source_has(tmp_path):
    (tmp_path / "from" / "deep").mkdir(parents=True)
    for name in ("deep/x.safetensors", "config.json"):
        (tmp_path / "from" / name).write_bytes(b"1")
    for mask, folder_mode, file_mode in ((0o077, 0o700, 0o600), (0o027, 0o750, 0o640), (0o022, 0o755, 0o644)):
        before = os.umask(mask)
        try:
            link_or_copy(tmp_path / "from", tmp_path / f"{mask}")
        finally:
            os.umask(before)
        entries = [tmp_path / f"{mask}", *(tmp_path / f"{mask}").rglob("*")]
        found = {stat.S_IMODE(entry.stat().st_mode) for entry in entries if entry.is_dir()}
        assert found == {folder_mode}, mask
        assert {stat.S_IMODE(entry.stat().st_mode) for entry in entries if entry.is_file()} == {file_mode}, mask


def test_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=rf"{path}: can't be read \({reason}\)"):
            file_sha256(path)

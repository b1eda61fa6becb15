"""Decoding in worker processes: order, and an end with a line when one dies, hangs or can't be started."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from lavit_core.data import open_data
from lavit_core.errors import InputError, LavitError
from lavit_core.image_batch import decode_batch
from lavit_tokenizer import decoded_batches as module
from lavit_tokenizer.decoded_batches import decoded_batches


def batches_of(folder, size=3):
    records = open_data(folder).records
    return [records[start : start + size] for start in range(0, len(records), size)]


def workers():
    return [child.pid for child in multiprocessing.active_children()]


@pytest.mark.parametrize("count", [1, 3])
def test_batches_come_in_order_whatever_the_workers(data, count):
    (data / "images" / "007.png").write_bytes(b"no image")
    batches = batches_of(data)
    alone = [one._replace(pixels=one.pixels.copy()) for one in decoded_batches(batches, 16, {}, workers=0)]
    assert alone[2].good == [0, 2]
    assert alone[2].errors[0]["key"] == "images/007.png"
    before = workers()
    for expected, found in zip(alone, decoded_batches(batches, 16, {}, workers=count), strict=True):
        assert expected._replace(pixels=None) == found._replace(pixels=None)
        np.testing.assert_array_equal(expected.pixels, found.pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            torch.from_numpy(found.pixels)
    assert workers() == before


@pytest.mark.parametrize("use", [list, lambda decoded: next(decoded) and decoded.close()])
def test_no_worker_stays(data, use):
    before = workers()
    use(decoded_batches(batches_of(data), 16, {}, workers=2))
    assert workers() == before


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_killed_worker_ends_the_job_with_a_line(data, monkeypatch, seconds):
    """Noticed while the next batch is waited for, or when another one is handed to the pool."""
    monkeypatch.setattr(module, "decode_batch", unhurried)  # else the other worker may be done with all of them first
    decoded = decoded_batches(batches_of(data, 1), 16, {}, workers=2)
    before = workers()
    next(decoded)
    os.kill(next(pid for pid in workers() if pid not in before), signal.SIGKILL)
    time.sleep(seconds)
    with pytest.raises(LavitError, match=r"was killed, most often because memory ran out; run the same command"):
        list(decoded)
    assert workers() == before


def unhurried(images, image_px, room):
    time.sleep(0.1)
    return decode_batch(images, image_px, room)


def slow(images, image_px, room):
    time.sleep(30)


@pytest.mark.parametrize("halt", [None, signal.SIGSTOP])
def test_a_stuck_worker_ends_the_job_in_bounded_time(data, monkeypatch, halt):
    before = workers()
    if halt is None:
        monkeypatch.setattr(module, "decode_batch", slow)
    monkeypatch.setattr(module, "STUCK_SECONDS", 0.5 if halt is None else 600.0)
    decoded = decoded_batches(batches_of(data, 1), 16, {}, workers=1)
    if halt is not None:
        next(decoded)
        os.kill(next(pid for pid in workers() if pid not in before), halt)
        monkeypatch.setattr(module, "STUCK_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(LavitError, match=r"no images were decoded for 0 s: a worker process is stuck, or the storage"):
        list(decoded)
    assert time.monotonic() - began < 25  # slow() sleeps for 30
    assert workers() == before


def test_a_stop_is_seen_while_waiting_for_a_worker(data, monkeypatch):
    monkeypatch.setattr(module, "decode_batch", slow)
    before = workers()
    began = time.monotonic()
    assert list(decoded_batches(batches_of(data), 16, {}, workers=2, stop=lambda: True)) == []
    assert time.monotonic() - began < 25  # the workers are not waited for either
    assert workers() == before


def test_processes_that_cannot_be_started_are_named(data, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(module, "ProcessPoolExecutor", refuse)
    with pytest.raises(InputError, match=r"--workers 2: .*Read-only file system.*; is /dev/shm there.* --workers 0"):
        list(decoded_batches(batches_of(data), 16, {}, workers=2))


SMALL = """
import sys
from pathlib import Path
from lavit_core.data import open_data
from lavit_tokenizer.decoded_batches import decoded_batches
records = open_data(Path(sys.argv[1])).records
print(sum(len(good) for good, *_ in decoded_batches([records] * 6, 512, {}, workers=2)))
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare of util-linux")
def test_a_small_shared_memory_is_enough(data):
    namespace = ["unshare", "-m", "-r", "sh", "-c"]
    if subprocess.run([*namespace, "mount -t tmpfs tmpfs /dev/shm"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount in a namespace of its own")
    # A batch of 40 images is 31 MB: with shared memory, the first one would not fit.
    line = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$0" "$@"'
    done = subprocess.run(
        [*namespace, line, sys.executable, "-c", SMALL, str(data)], capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "240", done.stderr

"""Images decoded ahead of the tokenizer by worker processes, in order, whatever their number.

Pixels come back in anonymous memory that forked workers share with their parent: through pipes they took a fifth of a
worker's time. It is no file of /dev/shm, which is small in containers.
"""

import contextlib
import ctypes
import itertools
import mmap
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from lavit_core.data import Record
from lavit_core.errors import InputError, LavitError
from lavit_core.image_batch import DecodedBatch, decode_batch
from lavit_core.images import ImageFile

AHEAD = 4
"""Batches that each worker decodes ahead."""

STUCK_SECONDS = 600.0
"""Longest wait for one batch: a worker that takes longer is stuck, or the storage under it is."""

PR_SET_PDEATHSIG = 1
"""Number of the Linux prctl that ties a process's life to its parent's."""


def decoded_batches(
    batches: Iterable[Sequence[Record]],
    image_px: int,
    limits: Mapping[str, int],
    *,
    workers: int,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[DecodedBatch, None, None]:
    """Yield each batch decoded within `limits` (min_pixels, max_pixels); by this process if `workers` is 0.

    `batches` may be longer than memory: a few are read ahead. Pixels are overwritten once the next batch is asked for.

    When `stop` says so during a wait, the batches end early.
    Raises InputError if worker processes can't be started, LavitError if one dies or takes too long.
    """
    jobs: Iterator[list[tuple[str, ImageFile]]]
    jobs = ([(record.key, record.image) for record in batch] for batch in batches)
    first = list(itertools.islice(jobs, workers))
    workers, jobs = len(first), itertools.chain(first, jobs)
    if not workers:
        room = np.empty((0, image_px, image_px, 3), np.uint8)
        for images in jobs:
            if len(images) > len(room):
                room = np.empty((len(images), image_px, image_px, 3), np.uint8)
            yield decode_batch(images, image_px, room, **limits)
        return
    rooms = [mmap.mmap(-1, max(map(len, first)) * image_px * image_px * 3) for _ in range(workers * AHEAD)]
    with contextlib.suppress(_Stopped), _worker_pool(workers, rooms) as pool:
        waiting: deque[tuple[int, Future[DecodedBatch]]] = deque()
        # As many batches wait as there are rooms, so the next one's room is that of the batch that was yielded last.
        places = itertools.cycle(range(len(rooms)))
        while True:
            try:
                while len(waiting) < len(rooms) and (job := next(jobs, None)) is not None:
                    place = next(places)
                    waiting.append((place, pool.submit(_decode_into, place, job, image_px, limits)))
            except BrokenProcessPool:  # a worker died while nobody waited for it
                raise _killed() from None
            except OSError as error:
                raise InputError(
                    f"--workers {workers}: processes can't be started ({error.strerror or error}); is /dev/shm there, "
                    "and can it be written to? --workers 0 needs none"
                ) from None
            if not waiting:
                return
            place, running = waiting.popleft()
            found = _result(running, stop)
            if len(found.pixels) < len(found.good):
                found = found._replace(pixels=_squares(rooms[place], len(found.good), image_px))
            yield found


def _squares(room: mmap.mmap, count: int, image_px: int) -> np.ndarray:
    """Return the first images in a room, uint8 [count, image_px, image_px, 3]."""
    stored = np.frombuffer(room, np.uint8, count=count * image_px * image_px * 3)
    return stored.reshape(count, image_px, image_px, 3)


_rooms: Sequence[mmap.mmap] = ()
"""Of a worker: the memory that it shares with its parent."""


def _decode_into(
    place: int, job: list[tuple[str, ImageFile]], image_px: int, limits: Mapping[str, int]
) -> DecodedBatch:
    """Decode a batch in a worker; pixels that fit into the room of the place stay there and are not sent."""
    room = _rooms[place]
    if len(job) * image_px * image_px * 3 > len(room):
        return decode_batch(job, image_px, **limits)
    found = decode_batch(job, image_px, _squares(room, len(job), image_px), **limits)
    return found._replace(pixels=found.pixels[:0])


class _Stopped(Exception):
    """Somebody asked for the end while a batch was waited for."""


def _result(job: "Future[DecodedBatch]", stop: Callable[[], bool]) -> DecodedBatch:
    """Wait for a batch; raise _Stopped when asked to stop meanwhile."""
    for _ in range(max(1, round(STUCK_SECONDS))):
        try:
            return job.result(timeout=min(1.0, STUCK_SECONDS))
        except BrokenProcessPool:
            raise _killed() from None
        except TimeoutError:
            if stop():
                raise _Stopped from None
    raise LavitError(
        f"no images were decoded for {STUCK_SECONDS:.0f} s: a worker process is stuck, or the storage does not answer; "
        "run the same command to go on"
    )


def _killed() -> LavitError:
    return LavitError(
        "a process that decodes images was killed, most often because memory ran out; run the same command to go on, "
        "with fewer --workers if it happens again"
    )


@contextlib.contextmanager
def _worker_pool(workers: int, rooms: Sequence[mmap.mmap]) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of forked processes; whatever ends the block early ends them too, stuck ones included."""
    before = set(multiprocessing.active_children())
    # Spawned workers would import torch again for seconds; forked ones only decode images with PIL.
    pool = None
    try:
        pool = _new_pool(workers, rooms)
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.kill()
        raise
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _new_pool(workers: int, rooms: Sequence[mmap.mmap]) -> ProcessPoolExecutor:
    try:
        forked = multiprocessing.get_context("fork")
        return ProcessPoolExecutor(workers, forked, initializer=_as_worker, initargs=(rooms,))
    except OSError as error:
        raise InputError(
            f"--workers {workers}: processes can't be started ({error.strerror or error}); is /dev/shm there, and can "
            "it be written to? --workers 0 needs none"
        ) from None


def _as_worker(rooms: Sequence[mmap.mmap]) -> None:
    """Leave signals to the main process, and end with it: this worker inherited the lock of the run directory."""
    global _rooms
    _rooms = rooms
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

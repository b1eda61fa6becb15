"""`--engine ray`: the same shards on a Ray cluster whose nodes share the disk; the driver alone writes the journal.

Actors encode (each on a GPU, or on a CPU without any), one shard at a time; images are decoded by Ray tasks on
any CPU, a few batches ahead of each encoder. Nothing in a shard depends on who makes it, so an actor or a task that
died is simply started again.
"""

import contextlib
import dataclasses
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from lavit_core.data import Record
from lavit_core.errors import InputError, LavitError
from lavit_core.image_batch import DecodedBatch, decode_batch
from lavit_core.images import ImageFile
from lavit_core.progress import note
from lavit_core.token_journal import FinishedShard, journal_folder

from lavit_tokenizer.decoded_batches import AHEAD
from lavit_tokenizer.make_shards import ShardJob, Stopped, make_shard
from lavit_tokenizer.ray_cluster import ray_cluster
from lavit_tokenizer.tokenizer_folder import load_tokenizer

RETRIES = 3
"""Times that a shard or a batch is tried again after whoever made it died."""

RESTARTS = 1000
"""Times that one actor is started again; preemptible nodes come and go."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RayJob:
    """What every process of the cluster needs; paths are as the user gave them, below `folder`."""

    shards: ShardJob
    model: Path
    data: Path
    device: str
    image_px: int
    folder: str
    """The driver's working directory."""


def make_shards_on_ray(
    job: RayJob,
    numbers: Sequence[int],
    read: Callable[[int], Sequence[Record]],
    *,
    address: str | None,
    stop: Callable[[], bool],
    advance: Callable[[int, int], None],
    quiet: bool = False,
) -> Iterator[FinishedShard]:
    """Make the shards of `numbers` on the cluster at `address` (None: that of RAY_ADDRESS, else this machine's CPUs and
    GPUs), of the records that `read` gives; yield each when it is on disk, in any order.

    Raises Stopped when `stop` says so, InputError if there is no such cluster or a node doesn't see the disk,
    LavitError if a shard can't be made after some tries.
    """
    if not numbers:
        return
    with ray_cluster(address):
        encoders, waiting = _encoders(job, len(numbers), quiet=quiet), deque(numbers)
        running: dict[Any, tuple[Any, int]] = {}

        def give(encoder: Any) -> None:
            if waiting:
                number = waiting.popleft()
                records = read(number)
                running[encoder.make.remote(number, records)] = (encoder, len(records))

        # One shard at work and one that waits, so that no encoder waits for the driver.
        for encoder in [*encoders, *encoders]:
            give(encoder)
        while running:
            done, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
            for one in done:
                encoder, size = running.pop(one)
                shard = _result(one)
                give(encoder)
                advance(size, len(shard.errors))
                yield shard
            if stop():
                raise Stopped


def _encoders(job: RayJob, num_shards: int, *, quiet: bool) -> list[Any]:
    """Start an actor on every GPU, or without any as many as there are CPUs for them and their decoding."""
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    use_gpu = gpus > 0 and job.device != "cpu"
    per_encoder = 1 + max(1, job.shards.config.workers)
    count = min(num_shards, gpus if use_gpu else max(1, cpus // per_encoder))
    # Encoding must leave a CPU to decode, or both would wait for ever.
    needs = {"num_gpus": 1, "num_cpus": 0} if use_gpu else {"num_cpus": 1 if cpus > count else 0}
    kind = ray.remote(max_restarts=RESTARTS, max_task_retries=RETRIES, **needs)(Encoder)
    note(
        f"ray: {count} encoder{'s' if count > 1 else ''} on {'GPUs' if use_gpu else 'CPUs'}, {cpus} CPUs in all",
        quiet=quiet,
    )
    device = "cuda" if use_gpu else "cpu" if job.device == "auto" else job.device
    return [kind.remote(dataclasses.replace(job, device=device)) for _ in range(count)]


def _result(reference: Any) -> FinishedShard:
    try:
        return ray.get(reference)  # type: ignore[no-any-return]
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, LavitError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        cause = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise LavitError(
            f"a Ray process died {RETRIES + 1} times over one shard, most often because memory ran out ({cause}); run "
            "the same command to go on"
        ) from None


class Encoder:
    """An actor: holds a tokenizer and makes one shard after another."""

    def __init__(self, job: RayJob) -> None:
        _arrive(job.folder, journal_folder(job.shards.out))
        self.job = job
        self.tokenizer = load_tokenizer(
            job.model, device=job.device, precision=job.shards.config.precision, use="encode"
        )

    def make(self, number: int, records: Sequence[Record]) -> FinishedShard:
        """Decode, encode and write one shard."""
        return make_shard(self.tokenizer, self.job.shards, number, records, self._decoded(records))

    def _decoded(self, records: Sequence[Record]) -> Iterator[DecodedBatch]:
        decode = ray.remote(num_cpus=1, max_retries=RETRIES)(decode_on_node)
        batches = self.job.shards.batches(records)
        waiting: deque[Any] = deque()
        while True:
            while len(waiting) < max(1, self.job.shards.config.workers) * AHEAD and (batch := next(batches, None)):
                images = [(record.key, record.image) for record in batch]
                place = (self.job.folder, self.job.data)
                waiting.append(decode.remote(place, images, self.job.image_px, self.job.shards.limits))
            if not waiting:
                return
            found = ray.get(waiting.popleft())
            yield found._replace(pixels=np.array(found.pixels))  # Ray's own memory can't be written to


def decode_on_node(
    place: tuple[str, Path], images: Sequence[tuple[str, ImageFile]], image_px: int, limits: Mapping[str, int]
) -> DecodedBatch:
    """Decode a batch on whatever node this is; `place` is the driver's working directory and the data.

    Raises InputError where the node doesn't see the data: its images would be listed as missing.
    """
    _arrive(*place)
    return decode_batch(images, image_px, **limits)


def _arrive(folder: str, needed: Path) -> None:
    with contextlib.suppress(OSError):  # absolute paths do without
        os.chdir(folder)
    if not needed.parent.exists() or not (needed.exists() or "{" in needed.name):
        raise InputError(
            f"{needed}: not there on node {socket.gethostname()}; expected all nodes of the Ray cluster to see the "
            "data, the model and --out at the same paths"
        )

"""Shards made from their images: what a shard holds follows from its number alone, whoever makes it."""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lavit_core.data import Record
from lavit_core.image_batch import DecodedBatch
from lavit_core.image_digests import images_sha256
from lavit_core.seeds import epoch_batches
from lavit_core.token_journal import FinishedShard
from lavit_core.tokens import TokenSample, write_shard

from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.decoded_batches import decoded_batches
from lavit_tokenizer.selector import topk_tokens
from lavit_tokenizer.tasks import temporary_shard
from lavit_tokenizer.tokenizer import VisualTokenizer

LIMITS = ("min_pixels", "max_pixels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardJob:
    """What all shards of a token directory have in common."""

    out: Path
    config: TokenizeConfig
    seed: int
    source: str
    """What the manifest names as the source of the images."""

    @property
    def limits(self) -> dict[str, int]:
        """Fewest and most pixels of an image that is read."""
        return {name: getattr(self.config, name) for name in LIMITS}

    def batches(self, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """Yield the batches of one shard's records: where one begins and ends never depends on who decodes."""
        for part in epoch_batches(len(records), self.config.batch_size):
            yield records[part]


class Stopped(Exception):
    """Somebody asked for the end before the shard was whole."""


def make_shards(
    tokenizer: VisualTokenizer,
    job: ShardJob,
    numbers: Iterable[int],
    read: Callable[[int], Sequence[Record]],
    *,
    stop: Callable[[], bool],
    advance: Callable[[int, int], None],
) -> Iterator[FinishedShard]:
    """Make the shards of `numbers` in this process, of the records that `read` gives; yield each when it is on disk.

    `advance` hears how many images of a batch were looked at, and how many of them were unreadable.
    Raises Stopped when `stop` says so: a shard that is begun is not waited for.
    """
    todo = list(numbers)
    every = (batch for number in todo for batch in job.batches(read(number)))
    image_px = tokenizer.config.preprocessing.image_px
    decoded = decoded_batches(every, image_px, job.limits, workers=job.config.workers, stop=stop)

    def checked() -> Iterator[DecodedBatch]:
        # A scheduler gives half a minute, and a shard that was begun is made again.
        while not stop() and (batch := next(decoded, None)) is not None:
            yield batch
        raise Stopped

    with contextlib.closing(decoded):
        for number in todo:
            yield make_shard(tokenizer, job, number, read(number), checked(), advance=advance)


def make_shard(
    tokenizer: VisualTokenizer,
    job: ShardJob,
    number: int,
    records: Sequence[Record],
    decoded: Iterator[DecodedBatch],
    *,
    advance: Callable[[int, int], None] = lambda looked_at, unreadable: None,
) -> FinishedShard:
    """Encode one shard's batches, which `decoded` yields in order (later shards' batches stay there), and write it."""
    samples: list[TokenSample] = []
    errors: list[dict[str, Any]] = []
    warned: collections.Counter[str] = collections.Counter()
    digests: list[bytes] = []
    for batch in job.batches(records):
        # Not zip, which would write a shard without the images of a batch that is missing.
        found = next(decoded)
        warned.update(found.warnings)
        digests += found.digests
        samples += _tokenized(
            tokenizer, [batch[place] for place in found.good], torch.from_numpy(found.pixels), job.config, job.seed
        )
        errors += found.errors
        advance(len(batch), len(found.errors))
    shape = tokenizer.config
    entry = write_shard(
        job.out, shard_name(number), samples, codebook_size=shape.codebook_size, grid=shape.grid, source=job.source,
        temporary=temporary_shard(job.out, shard_name(number)),
    )  # fmt: skip
    keys = (sample.key for sample in samples)
    entry = entry.model_copy(update={"images_sha256": images_sha256(zip(keys, digests, strict=True))})
    return FinishedShard(entry=entry, errors=errors, warnings=dict(sorted(warned.items())))


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:06d}.safetensors"


def _tokenized(
    tokenizer: VisualTokenizer, records: Sequence[Record], pixels: torch.Tensor, config: TokenizeConfig, seed: int
) -> Iterator[TokenSample]:
    if not records:
        return
    keys = [record.key for record in records]
    # Not the number of a language model beside it: the manifest records what the settings say.
    tokens = topk_tokens(tokenizer.config, config.tokens) if config.selection == "topk" else None
    encoded = tokenizer.encode(pixels, selection=config.selection, tokens=tokens, seed=seed, keys=keys)
    ends = encoded.counts.cumsum(0).tolist()
    codes, masks = encoded.codes.cpu().numpy(), encoded.keep_mask.cpu().numpy()
    merged = encoded.merged.cpu().numpy() if config.features else None
    for row, (record, start, end) in enumerate(zip(records, [0, *ends[:-1]], ends, strict=True)):
        features = None if merged is None else merged[start:end]
        yield TokenSample(
            key=record.key, codes=codes[start:end], keep_mask=masks[row], texts=record.captions, features=features
        )

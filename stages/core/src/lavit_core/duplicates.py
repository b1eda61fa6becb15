"""Images that lie in a data set more than once, or in two data sets, byte for byte."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from lavit_core.image_digests import image_sha256
from lavit_core.progress import Progress
from lavit_core.records import Record

_THREADS = 4

AHEAD = 1024
"""Images that are handed to the threads at a time."""


def find_duplicates(records: Sequence[Record], *, quiet: bool = False) -> list[tuple[str, ...]]:
    """Return the keys of each group of images whose encoded bytes are equal; files that can't be read are left out."""
    keys: dict[bytes, list[str]] = {}
    for key, digest in _digests(records, "duplicates", quiet):
        keys.setdefault(digest, []).append(key)
    return [tuple(group) for group in keys.values() if len(group) > 1]


def find_shared(records: Sequence[Record], others: Sequence[Record], *, quiet: bool = False) -> list[tuple[str, str]]:
    """Return (key, key of the first equal one among `others`) of each image whose encoded bytes are there too."""
    keys: dict[bytes, str] = {}
    for key, digest in _digests(others, "the other images", quiet):
        keys.setdefault(digest, key)
    return [(key, keys[digest]) for key, digest in _digests(records, "images", quiet) if digest in keys]


def _digests(records: Sequence[Record], what: str, quiet: bool) -> Iterator[tuple[str, bytes]]:
    """Yield key and SHA-256 of each image; those that can't be read are left out."""
    with ThreadPoolExecutor(_THREADS) as pool, Progress(what, len(records), unit="image", quiet=quiet) as bar:
        for first in range(0, len(records), AHEAD):
            part = records[first : first + AHEAD]
            for record, digest in zip(part, pool.map(image_sha256, (one.image for one in part)), strict=True):
                bar.advance()
                if digest is not None:
                    yield record.key, digest

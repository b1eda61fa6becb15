"""Images that lie in a data set more than once, byte for byte."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from lavit_core.image_digests import image_sha256
from lavit_core.progress import Progress
from lavit_core.records import Record

_THREADS = 4


def find_duplicates(records: Sequence[Record], *, quiet: bool = False) -> list[tuple[str, ...]]:
    """Return the keys of each group of images whose encoded bytes are equal; files that can't be read are left out."""
    keys: dict[bytes, list[str]] = {}
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        Progress("duplicates", len(records), unit="image", quiet=quiet) as bar,
    ):
        digests: Iterator[bytes | None] = pool.map(image_sha256, (record.image for record in records))
        for record, digest in zip(records, digests, strict=True):
            bar.advance()
            if digest is not None:
                keys.setdefault(digest, []).append(record.key)
    return [tuple(group) for group in keys.values() if len(group) > 1]

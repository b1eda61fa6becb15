"""Whether images are still those from which tokens were made: others may have their names and sizes."""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lavit_core.data import Record, Source, open_data, source_of
from lavit_core.image_digests import image_sha256, images_sha256
from lavit_core.progress import Progress
from lavit_core.rundir import recorded_inputs
from lavit_core.token_format import ShardEntry
from lavit_core.token_reader import open_tokens
from lavit_core.verify import Checked


def last_change(records: Iterable[Record]) -> int:
    """Return when one of the images' files was changed last, its name or rights too (nanoseconds); 0 if none is
    there."""
    # As text: paths take long to compare.
    places = {str(getattr(record.image, "file", getattr(record.image, "folder", record.image))) for record in records}
    return max(map(_changed, places), default=0)


def _changed(place: str) -> int:
    """Return when a file was changed last, or one in the folder of a saved data set."""
    try:
        status = os.stat(place)
        inside = os.scandir(place) if stat.S_ISDIR(status.st_mode) else ()
        return max(status.st_mtime_ns, status.st_ctime_ns, *(_changed(one.path) for one in inside if one.is_file()))
    except OSError:
        return 0


def others_than(entry: ShardEntry, records: Sequence[Record]) -> bool:
    """Return whether the images of a shard are others than those it was made from; every byte of them is read."""
    digests = ((record.key, image_sha256(record.image) or b"") for record in records)
    return entry.images_sha256 is not None and images_sha256(digests) != entry.images_sha256


def verify_images(folder: Path, data: Path | Source, *, quiet: bool = False) -> Checked:
    """Read the images of a token directory again and compare them with those that its shards were made from.

    Raises InputError if `data` is not a data set.
    """
    reader, opened = open_tokens(folder, check_digests=False), open_data(data)
    rest, recorded = iter(opened.records), recorded_inputs(folder).get("data")
    problems, unknown, first = list[str](), 0, 0
    remedy = "delete the shard and run the same `lavit tokenize-images` again"
    if recorded not in (None, opened.digest):
        remedy = "give `lavit tokenize-images` a new --out"
        problems.append(
            f"{folder}: made from another list of images and captions than {source_of(data).path} is now: something "
            f"was added, renamed or changed; {remedy}"
        )
    record = next(rest, None)
    with Progress("images", len(reader), unit="image", quiet=quiet) as progress:
        for entry in reader.manifest.shards:
            found, missing = list[Record](), list[str]()
            # Keys stand in the order of the records.
            for key in reader.keys(np.arange(first, first + entry.samples)):
                while record is not None and record.key < key:
                    record = next(rest, None)
                if record is not None and record.key == key:
                    found.append(record)
                else:
                    missing.append(key)
            first += entry.samples
            if missing:
                problems.append(f"{folder / entry.file}: {len(missing)} images are gone, the first {missing[0]}")
            elif others_than(entry, found):
                span = f"{found[0].key} to {found[-1].key}"
                problems.append(f"{folder / entry.file}: made from other images than are there now ({span}); {remedy}")
            unknown += entry.images_sha256 is None
            progress.advance(entry.samples)
    why = f"{unknown} of {len(reader.manifest.shards)} shards have no digest of their images" if unknown else ""
    return Checked(part="images", files=len(reader), bytes=0, problems=tuple(problems), unchecked=why)

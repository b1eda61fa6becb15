"""Every image that a layout names, looked for once: its size, where it lies, and the digest of them all."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping

from lavit_core.files import update_with_file
from lavit_core.layouts.near_misses import near_miss
from lavit_core.line_store import LineStore
from lavit_core.records import Contents, Problem
from lavit_core.stored_records import StoredRecords

MAX_HINTS = 1000
"""Missing images for which a file of almost the same name is looked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listing:
    """The images that are there."""

    records: StoredRecords
    """Sorted by key."""
    digest: str
    num_empty_captions: int
    problems: list[Problem]
    """Images that are not there, or whose key is no text."""


def list_images(contents: Contents, sizes: Mapping[str, int], *, captions: bool = True) -> Listing:
    """Look for the images of a data set in the order of their keys; `sizes` stand for those of the files they name.

    Without `captions` those of the data set are left out.
    """
    lines, digest, problems = LineStore(), hashlib.sha256(), list[Problem]()
    plain = contents.layout in ("lavit", "images")
    for file in contents.files if plain else ():
        update_with_file(digest, file)
    root, num_missing, num_empty = str(contents.root), 0, 0
    for image in contents.images():
        kept = [text for text in image.captions if text.strip()] if captions else []
        num_empty += len(image.captions) - len(kept) if captions else 0
        key, size = image.key, image.size
        if not _is_text(key):
            message = f"{contents.root}: the file name {os.fsencode(key)!r} is not UTF-8, expected one that is"
            problems.append(Problem("name", f"{message}; rename the file"))
            continue
        if not image.place:
            try:
                size = os.stat(os.path.join(root, key)).st_size
            except OSError:
                why = _why_expected(contents, key, hint=num_missing < MAX_HINTS)
                problems.append(Problem("missing", f"{contents.root / key}: no such image, {why}"))
                num_missing += 1
                continue
        lines.append(json.dumps([key, size, kept, *image.place]).encode())
        size = sizes.get(key, size)
        digest.update(f"{key}\0{size}\n".encode() if plain else json.dumps([key, size, kept]).encode() + b"\n")
    if not plain:
        for question in contents.questions:
            fields = dataclasses.astuple(question)
            # As it was before questions had several images, where they have not.
            digest.update(json.dumps(fields if question.images else fields[:-1]).encode() + b"\n")
    return Listing(
        records=StoredRecords(contents.root, lines),
        digest=digest.hexdigest(),
        num_empty_captions=num_empty,
        problems=problems,
    )


def _why_expected(contents: Contents, key: str, *, hint: bool) -> str:
    """Return why a missing image was expected, and where it may be instead."""
    if not contents.files:
        return "only a link that leads nowhere"
    why = f"yet {contents.files[0].name}{' or its neighbour' if contents.layout == 'lavit' else ''} names it"
    found = near_miss(contents.root, key) if hint else None
    if found is None:
        return why
    name, how = found
    return f"{why}; {contents.root / name} is there: write {contents.named_by} {name} ({how})"


def _is_text(value: str) -> bool:
    """Return whether a string can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

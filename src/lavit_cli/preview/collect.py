"""What the page shows of a data set: counts and problems of all of it, and a few images chosen by a seed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.data import Data, Question, Record, Source, first_problem, scan_data, source_of
from lavit_core.data_report import count_problems, decode_images, report_of
from lavit_core.duplicates import find_duplicates
from lavit_core.errors import InputError
from lavit_core.images import open_rgb, resize_to_square
from lavit_core.progress import warn
from lavit_core.seeds import derive_seed

PUBLISHED_PX = 224
"""Side of the square that the published model reads, in pixels."""

THUMB_PX = 240
"""Longest side of an image as it lies in its file, in pixels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreviewSettings:
    """What is shown and checked."""

    samples: int = 24
    """Images on the page."""
    check: int = 10_000
    """Images that are decoded and compared, chosen by the seed; 0: all."""
    duplicates: bool = False
    """Whether all images are compared."""
    image_px: int = PUBLISHED_PX
    """Side of the square that images are resized to."""
    seed: int = 0
    quiet: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One image of the page."""

    key: str
    captions: tuple[str, ...]
    questions: tuple[Question, ...]
    original: np.ndarray
    """uint8 [h, w, 3], at most THUMB_PX."""
    size: tuple[int, int]
    """Width and height in its file, in pixels."""
    square: np.ndarray
    """uint8 [image_px, image_px, 3]: what the model's encoder reads."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preview:
    """Everything the page shows."""

    data: Data
    checked: Sequence[Record]
    """Images that were decoded, and whose texts are tokenised with a model."""
    report: dict[str, Any]
    """As `lavit data inspect` prints it."""
    num_problems: int
    """Problems that keep the data set from being opened."""
    image_px: int
    samples: list[Sample]
    caption_words: list[int]
    """Words of every caption."""
    duplicates: list[tuple[str, ...]]
    """Keys of images with equal bytes."""
    compared: int
    """Images that were compared."""


def collect_preview(source: Path | Source, settings: PreviewSettings) -> Preview:
    """Read a data set: all of its lists, `check` of its images, and `samples` of those that can be read.

    Raises InputError if `source` is not a data set, or has no image that can be read.
    """
    data, problems = scan_data(source)
    checked = choose(data.records, settings.check, settings.seed, "check")
    decoded = decode_images(checked, quiet=settings.quiet)
    unreadable = {row["file"] for row in decoded.unreadable}
    readable = [record for record in checked if record.key not in unreadable]
    if not readable and problems:
        raise first_problem(source, problems)
    if not readable:
        more = f"`lavit data inspect {source_of(source).words}` lists them"
        raise InputError(f"{source}: none of {len(checked)} images can be read; {more}")
    compared = data.records if settings.duplicates else readable
    asked: dict[str, list[Question]] = {}
    for question in data.questions:
        if question.num_images == 1:
            asked.setdefault(question.key, []).append(question)
    if others := len(data.questions) - sum(map(len, asked.values())):
        warn(f"{source}: {others} of {len(data.questions)} questions are about several images or none; not shown")
    report = report_of(source, data, problems, decoded)
    samples = [
        _sample(record, asked.get(record.key, ()), settings.image_px)
        for record in choose(readable, settings.samples, settings.seed, "samples")
    ]
    return Preview(
        data=data,
        checked=checked,
        report=report,
        num_problems=count_problems(report),
        image_px=settings.image_px,
        samples=samples,
        caption_words=[len(caption.split()) for record in data.records for caption in record.captions],
        duplicates=find_duplicates(compared, quiet=settings.quiet),
        compared=len(compared),
    )


def choose(records: Sequence[Record], count: int, seed: int, purpose: str) -> Sequence[Record]:
    """Return `count` records in their order, drawn by the seed; 0, or more than there are: all."""
    if not 0 < count < len(records):
        return records
    rng = np.random.default_rng(derive_seed(seed, "preview", purpose))
    return [records[place] for place in np.sort(rng.choice(len(records), count, replace=False)).tolist()]


def _sample(record: Record, questions: Sequence[Question], image_px: int) -> Sample:
    image = open_rgb(record.image)
    square = resize_to_square(image, image_px)
    size = image.size
    image.thumbnail((THUMB_PX, THUMB_PX))
    return Sample(
        key=record.key,
        captions=record.captions,
        questions=tuple(questions),
        original=np.asarray(image),
        size=size,
        square=square,
    )

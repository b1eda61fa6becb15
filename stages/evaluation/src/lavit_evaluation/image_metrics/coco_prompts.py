"""Captions of COCO to draw images from, and the real images beside them."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lavit_core.errors import InputError
from lavit_core.seeds import derive_seed
from lavit_scoring.catalogue import find_file, find_folder
from lavit_scoring.references import References

from lavit_evaluation.benchmarks.items import check_downloads, find_named
from lavit_evaluation.image_metrics.features import Folder, some_of

CAPTION_FILES = ("captions_val2014.json", "dataset_coco.json", "coco_karpathy_test_gt.json", "coco_karpathy_test.json")
"""The whole of val2014 first, as published; Karpathy's test part holds 5,000 of its images."""
IMAGE_FOLDERS = ("val2014",)
SOURCE = "https://cocodataset.org/#download (2014 Train/Val annotations, 2014 Val images)"


@dataclass(frozen=True, slots=True)
class CocoPrompt:
    """A caption to draw, and the image it was written for."""

    name: str
    """Name of the drawn image."""
    text: str
    image: str
    """The real image's path as the caption file gives it."""


def find_captions(data: Path, annotations: Path | None) -> Path:
    """Return the caption file. Raises InputError if it is not found."""
    check_downloads(data)
    file = annotations or find_file(data, CAPTION_FILES)
    if file is None:
        raise InputError(
            f"{data}: no {' or '.join(CAPTION_FILES)} here; download from {SOURCE}, or give --annotations FILE"
        )
    return file


def choose_prompts(references: References, count: int, seed: int) -> list[CocoPrompt]:
    """Return `count` captions drawn by the seed, or all when there are fewer.

    One caption an image before any image has a second one; fewer are the first of more. Line breaks become spaces.
    """
    captions = next(iter(references.by_kind.values()))
    names = list(captions)
    order = [names[place] for place in np.random.default_rng(derive_seed(seed, "fid images")).permutation(len(names))]
    turns = {
        name: np.random.default_rng(derive_seed(seed, "fid caption", name)).permutation(len(captions[name]))
        for name in order
    }
    chosen = [
        (name, captions[name][turns[name][turn]])
        for turn in range(max(map(len, turns.values())))
        for name in order
        if turn < len(turns[name])
    ][:count]
    return [
        CocoPrompt(f"{place:06d}.png", " ".join(text.split()), references.files[name])
        for place, (name, text) in enumerate(chosen)
    ]


def prompts_digest(prompts: Sequence[CocoPrompt]) -> str:
    """Return the SHA-256 of every caption and its image, in order."""
    lines = (f"{prompt.name}\0{prompt.image.rpartition('/')[2]}\0{prompt.text}\n" for prompt in prompts)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def real_images(prompts: Sequence[CocoPrompt], data: Path, images: Path | None) -> Folder:
    """Return the images that the captions were written for, each once. Raises InputError when some are missing."""
    folder = images or find_folder(data, IMAGE_FOLDERS) or data
    wanted: set[tuple[str, ...]] = {(prompt.image, prompt.image.rpartition("/")[2]) for prompt in prompts}
    files = sorted(find_named(wanted, folder, data).values())
    root = Path(os.path.commonpath([file.parent for file in files]))
    return some_of(root, [file.relative_to(root).as_posix() for file in files])

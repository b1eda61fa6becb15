"""Inception features of a folder of images, in shards on disk: a killed job goes on with the next shard."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lavit_core.data import find_images
from lavit_core.errors import InputError
from lavit_core.images import open_rgb

from lavit_evaluation.evaluation_session import EvaluationSession
from lavit_evaluation.stores import Shards

SHARD = 256
"""Images a shard: what a kill can cost at most."""

Featurize = Callable[[list[np.ndarray]], np.ndarray]
"""Images uint8 [H, W, 3] -> features float32 [N, D]."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The images of one side."""

    root: Path
    keys: list[str]
    """Their paths below `root`, sorted."""
    digest: str
    """SHA-256 of every key and size in bytes."""


def open_folder(root: Path, option: str) -> Folder:
    """Return a folder's images. Raises InputError if `root` is not a folder with images."""
    if not root.is_dir():
        raise InputError(f"{option} {root}: {'a file' if root.exists() else 'nothing'}, expected a folder of images")
    keys = find_images(root)
    if not keys:
        raise InputError(f"{option} {root}: no image in it")
    return some_of(root, keys)


def some_of(root: Path, keys: list[str]) -> Folder:
    """Return the named images of a folder as one side."""
    digest = hashlib.sha256()
    for key in keys:
        digest.update(f"{key}\0{(root / key).stat().st_size}\n".encode())
    return Folder(root=root, keys=keys, digest=digest.hexdigest())


def read_features(
    session: EvaluationSession, folder: Folder, out: Path, side: str, *, prepare: Callable[[Path], np.ndarray],
    featurize: Featurize, batch_size: int,
) -> Iterable[np.ndarray]:  # fmt: skip
    """Yield the features of each shard, float32 [n, D], from `out` or from the network.

    Raises Interrupted at a stop signal, InputError for an unreadable image.
    """
    with ThreadPoolExecutor(8) as pool:
        return session.ask(
            {key: folder.root / key for key in folder.keys},
            lambda files: featurize(list(pool.map(prepare, files))),
            Shards(out, size=SHARD, tensor="features", prefix=f"{side}-"),
            batch_size=batch_size,
            unit="image",
            part=f"Inception features, {side}",
        )


def reader(size: int | None, crop: str) -> Callable[[Path], np.ndarray]:
    """Return what reads an image file as uint8 [H, W, 3], cropped and resized."""
    from lavit_evaluation.image_metrics.preprocess import resized

    return lambda file: resized(open_rgb(file), size, crop)

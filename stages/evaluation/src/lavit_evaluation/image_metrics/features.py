"""Inception features of a folder of images, in shards on disk: a killed job goes on with the next shard."""

import hashlib
from collections.abc import Callable, Mapping
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
    lines = (f"{key}\0{(root / key).stat().st_size}\n" for key in keys)
    return Folder(root=root, keys=keys, digest=hashlib.sha256("".join(lines).encode()).hexdigest())


def read_features(
    session: EvaluationSession, sides: Mapping[str, Folder], out: Path, *, size: int | None, crop: str,
    featurize: Featurize, batch_size: int,
) -> dict[str, list[np.ndarray]]:  # fmt: skip
    """Return the features of each side, shard by shard, float32 [n, D], from `out` or from the network.

    Images are brought to `size` by `crop`. Raises Interrupted at a stop signal, InputError for an unreadable image.
    """
    from lavit_evaluation.image_metrics.preprocess import resized

    features: dict[str, list[np.ndarray]] = {}
    with ThreadPoolExecutor(8) as pool:
        for side, folder in sides.items():
            shards = session.ask(
                {key: folder.root / key for key in folder.keys},
                lambda files: featurize(list(pool.map(lambda file: resized(open_rgb(file), size, crop), files))),
                Shards(out, size=SHARD, tensor="features", prefix=f"{side}-"),
                batch_size=batch_size,
                unit="image",
                part=f"Inception features, {side}",
            )
            features[side] = list(shards)
    return features

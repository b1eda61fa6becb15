"""Inception features of a folder of pictures, in shards on disk: a killed job goes on with the next shard."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lavit_core.data import find_images
from lavit_core.errors import InputError, Interrupted
from lavit_core.files import write_bytes
from lavit_core.images import open_rgb
from lavit_core.progress import Progress
from safetensors.numpy import load_file, save

SHARD = 256
"""Pictures a shard: what a kill can cost at most."""

Featurize = Callable[[list[np.ndarray]], np.ndarray]
"""Pictures uint8 [H, W, 3] -> features float32 [N, D]."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The pictures of one side."""

    root: Path
    keys: list[str]
    """Their paths below `root`, sorted."""
    digest: str
    """SHA-256 of every key and size in bytes."""


def open_folder(root: Path, option: str) -> Folder:
    """Return a folder's pictures. Raises InputError when there is none."""
    if not root.is_dir():
        raise InputError(f"{option} {root}: {'a file' if root.exists() else 'nothing'}, expected a folder of pictures")
    keys = find_images(root)
    if not keys:
        raise InputError(f"{option} {root}: no picture in it")
    return some_of(root, keys)


def some_of(root: Path, keys: list[str]) -> Folder:
    """Return the named pictures of a folder as one side."""
    digest = hashlib.sha256()
    for key in keys:
        digest.update(f"{key}\0{(root / key).stat().st_size}\n".encode())
    return Folder(root=root, keys=keys, digest=digest.hexdigest())


def shard_files(folder: Folder, shards: Path, side: str) -> list[Path]:
    """Return the files that a folder's features go to."""
    return [shards / f"{side}-{start // SHARD:05d}.safetensors" for start in range(0, len(folder.keys), SHARD)]


def write_features(
    folder: Folder, shards: Path, side: str, *, prepare: Callable[[Path], np.ndarray], featurize: Featurize,
    batch_size: int, progress: Progress, stop: Callable[[], bool],
) -> None:  # fmt: skip
    """Write the features of every picture, shard by shard; shards that are there are kept.

    Raises Interrupted at a stop signal, InputError for an unreadable picture.
    """
    shards.mkdir(exist_ok=True)
    with ThreadPoolExecutor(8) as pool:
        for number, file in enumerate(shard_files(folder, shards, side)):
            keys = folder.keys[number * SHARD : (number + 1) * SHARD]
            if not file.exists():
                rows = []
                for start in range(0, len(keys), batch_size):
                    if stop():
                        raise Interrupted(f"stopped before {file.name}; run the same command to go on")
                    batch = [folder.root / key for key in keys[start : start + batch_size]]
                    rows.append(featurize(list(pool.map(prepare, batch))))
                    progress.advance(len(batch))
                write_bytes(file, save({"features": np.concatenate(rows).astype(np.float32)}))
            else:
                progress.advance(len(keys))


def read_features(folder: Folder, shards: Path, side: str) -> Iterator[np.ndarray]:
    """Yield the features of each shard, float32 [n, D]."""
    for file in shard_files(folder, shards, side):
        yield load_file(file)["features"]


def reader(size: int | None, crop: str) -> Callable[[Path], np.ndarray]:
    """Return what reads a picture file as uint8 [H, W, 3], cropped and resized."""
    from lavit_evaluation.drawn.preprocess import resized

    return lambda file: resized(open_rgb(file), size, crop)

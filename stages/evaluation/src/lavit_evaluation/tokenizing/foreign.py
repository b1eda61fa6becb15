"""Another tokenizer's output in files: reconstructions named as their images, and codes.

Codes are a `.npy` of integers [images, tokens], or JSON lines {"file_name": "images/1.png", "codes": [5, 3, ...]}.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from lavit_core.data import find_images
from lavit_core.errors import InputError
from lavit_core.images import open_rgb, square_pixels
from lavit_core.json_lines import iterate_json_objects
from lavit_scoring.errors import some_names


def find_reconstructions(folder: Path, keys: Sequence[str], records: Sequence[str]) -> list[Path]:
    """Return the reconstruction of each image: of the same path below `folder`, or the same stem, whatever the ending.

    `records` are all images of the data: a stem that two of them have says nothing.

    Raises InputError naming images without one, or with two.
    """
    if not folder.is_dir():
        raise InputError(f"--drawn {folder}: {'a file' if folder.exists() else 'nothing'}, expected a folder of images")
    found = find_images(folder)
    by_path = Counter(_path(one) for one in found)
    by_stem = Counter(PurePosixPath(one).stem for one in found)
    files = {_path(one): one for one in found} | {f"*{PurePosixPath(one).stem}": one for one in found}
    stems = Counter(PurePosixPath(key).stem for key in records)
    chosen: list[Path] = []
    missing: list[str] = []
    twice: list[str] = []
    for key in keys:
        stem = PurePosixPath(key).stem
        if by_path[_path(key)] == 1:
            chosen.append(folder / files[_path(key)])
        elif by_stem[stem] == 1 and stems[stem] == 1:
            chosen.append(folder / files[f"*{stem}"])
        else:
            (twice if by_path[_path(key)] > 1 or by_stem[stem] > 1 else missing).append(key)
    if twice:
        raise InputError(
            f"--drawn {folder}: {len(twice)} images may have several reconstructions ({some_names(twice)})"
        )
    if missing:
        raise InputError(
            f"--drawn {folder}: {len(missing)} of {len(keys)} images have no reconstruction ({some_names(missing)}); "
            "files are named as their images"
        )
    return chosen


def read_reconstructions(files: Sequence[Path], image_px: int | None) -> np.ndarray:
    """Return images uint8 [N, px, px, 3]; without `image_px` as they are, squares of one size. Raises InputError."""
    if image_px is not None:
        return np.stack([square_pixels(file, image_px) for file in files])
    images = []
    for file in files:
        images.append(np.asarray(open_rgb(file)))
        height, width, _ = images[-1].shape
        if images[-1].shape != images[0].shape or height != width:
            raise InputError(
                f"{file}: {width}x{height} pixels, expected squares of one size; --set compare_px=256 brings all to one"
            )
    return np.stack(images)


def read_codes(file: Path, keys: Sequence[str], codebook_size: int) -> list[np.ndarray]:
    """Return each image's codes. Raises InputError for images without codes, and codes outside of the codebook."""
    codes = _from_array(file, len(keys)) if file.suffix == ".npy" else _from_lines(file, keys)
    for key, own in zip(keys, codes, strict=True):
        if len(own) == 0 or own.min() < 0 or own.max() >= codebook_size:
            shown = "no codes" if len(own) == 0 else f"codes from {own.min()} to {own.max()}"
            raise InputError(f"--codes {file}: {key} has {shown}, expected 0 to {codebook_size - 1} (--codebook-size)")
    return codes


def _from_array(file: Path, num_images: int) -> list[np.ndarray]:
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--codes {file}: not an array of numbers ({error})") from None
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer) or len(array) != num_images:
        raise InputError(
            f"--codes {file}: {array.dtype} {list(array.shape)}, expected integers [{num_images}, tokens], a row an "
            "image"
        )
    return list(array)


def _from_lines(file: Path, keys: Sequence[str]) -> list[np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for number, row in iterate_json_objects(file):
        name, codes = row.get("file_name"), row.get("codes")
        right = isinstance(codes, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in codes)
        if not isinstance(name, str) or not right:
            raise InputError(f"{file}:{number}: expected file_name and codes, a list of whole numbers")
        if name in found:
            raise InputError(f"{file}:{number}: {name} occurs twice, expected each image once")
        found[name] = np.array(codes, dtype=np.int64)
    if missing := [key for key in keys if key not in found]:
        raise InputError(f"--codes {file}: {len(missing)} of {len(keys)} images have no codes ({some_names(missing)})")
    return [found[key] for key in keys]


def _path(key: str) -> str:
    return PurePosixPath(key).with_suffix("").as_posix()

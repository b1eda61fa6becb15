"""CPU time of reading images into the square, beside Pillow alone, in pairs.

    python stages/core/benchmarks/decode_images.py FOLDER --image-px 224 --enlarge 5 --rounds 5

Without FOLDER, photo-like noise is drawn. `--enlarge` saves larger copies first; `--orientation` marks them as turned.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lavit_core.images import square_pixels
from PIL import Image, ImageOps


def bare(content: bytes, image_px: int) -> np.ndarray:
    """Return the square as Pillow alone makes it: no size limit, no transparency, no orientation."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB").resize((image_px, image_px), Image.Resampling.BICUBIC))


def turned(content: bytes, image_px: int) -> np.ndarray:
    """Return the square as Pillow alone makes it with the orientation applied, which copies every image."""
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        return np.asarray(upright.resize((image_px, image_px), Image.Resampling.BICUBIC))


def photos(folder: Path | None, count: int, enlarge: int, orientation: int) -> list[bytes]:
    """Return JPEG files: the first ones of a folder, or smooth noise of 500 x 375."""
    random = np.random.default_rng(0)
    files = sorted(folder.rglob("*.jpg"))[:count] if folder else []
    made = [
        Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375)) for _ in range(count)
    ]
    exif = Image.Exif()
    exif[0x0112] = orientation
    contents = []
    for image in [Image.open(file).convert("RGB") for file in files] or made:
        out = io.BytesIO()
        image.resize((image.width * enlarge, image.height * enlarge)).save(out, "JPEG", quality=85, exif=exif)
        contents.append(out.getvalue())
    return contents


def cpu_ms(read: Callable[[bytes, int], np.ndarray], contents: list[bytes], image_px: int) -> float:
    """Return CPU milliseconds an image."""
    began = time.process_time()
    for content in contents:
        read(content, image_px)
    return (time.process_time() - began) / len(contents) * 1000


def main() -> None:
    """Print the median CPU time an image of each reader, and the median of its ratios to Pillow alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    for name, value in (("image-px", 224), ("count", 100), ("enlarge", 5), ("orientation", 1), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    contents = photos(args.folder, args.count, args.enlarge, args.orientation)
    readers = {"Pillow alone": bare, "exif_transpose": turned, "square_pixels": square_pixels}
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(args.rounds):
        for name, read in readers.items():
            times[name].append(cpu_ms(read, contents, args.image_px))
    size = sum(map(len, contents)) / len(contents) / 1000
    print(f"{len(contents)} images of {size:.0f} kB, {args.image_px} px, {args.rounds} rounds")
    for name, found in times.items():
        rate = statistics.median(one / other for one, other in zip(times["Pillow alone"], found, strict=True))
        print(f"{name:<16}{statistics.median(found):8.2f} ms CPU an image, {rate:.0%} of Pillow's rate")


if __name__ == "__main__":
    main()

"""Images a CPU second and a second of decoding processes, beside Pillow alone, in turn.

python stages/tokenizer/benchmarks/decode_workers.py FOLDER --images 600 --repeat 3 --image-px 224 --rounds 5

CPU seconds are those of all processes together, starting them included; they hold on a busy machine too. Images a
second of the wall need as many free cores as workers.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from lavit_core.data import Record, open_data
from lavit_tokenizer.decoded_batches import decoded_batches
from PIL import Image

BATCH = 32


def main() -> None:
    """Print a row a way: median rates, and the medians of their ratios to Pillow's of the same round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--repeat", type=int, default=3, help="times that each way reads the images in a round")
    parser.add_argument("--image-px", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    records = list(open_data(asked.folder).records[: asked.images]) * asked.repeat
    px = asked.image_px
    ways: dict[str, Callable[[], object]] = {
        "Pillow alone": lambda: bare(records, px),
        "Pillow alone, two processes": lambda: bare_in_two(records, px),
        **{f"--workers {workers}": lambda workers=workers: ours(records, px, workers) for workers in (0, 1, 2)},
    }
    bare(records, px)  # files enter the page cache
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), cpu_seconds()
            way()
            wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
            rates[name].append((len(records) / cpu, len(records) / wall))
    print("| way | images a CPU second | of Pillow alone | images a second | of Pillow alone |\n|---|---|---|---|---|")
    for name, found in rates.items():
        cells = []
        for kind in (0, 1):
            alone = (one[kind] for one in rates["Pillow alone"])
            ratios = [one[kind] / other for one, other in zip(found, alone, strict=True)]
            cells += [f"{statistics.median(one[kind] for one in found):,.0f}", f"{statistics.median(ratios):.3f}"]
        print(f"| {name} | {' | '.join(cells)} |")


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def bare(records: Sequence[Record], px: int) -> None:
    """Read squares with Pillow: no limits, no orientation."""
    for record in records:
        assert isinstance(record.image, Path)
        with Image.open(record.image) as image:
            np.asarray(image.convert("RGB").resize((px, px), Image.Resampling.BICUBIC))


def bare_in_two(records: Sequence[Record], px: int) -> None:
    """Read the halves in two processes, which give nothing back."""
    half = len(records) // 2
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(bare, (records[:half], records[half:]), (px, px)))


def ours(records: Sequence[Record], px: int, workers: int) -> None:
    """Read batches as `lavit tokenize-images` does."""
    batches = [records[first : first + BATCH] for first in range(0, len(records), BATCH)]
    for _ in decoded_batches(batches, px, {}, workers=workers):
        pass


if __name__ == "__main__":
    main()

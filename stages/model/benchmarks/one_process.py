"""N prompts through one LaVIT object in one process, beside N `lavit generate` processes on the same model.

`python stages/model/benchmarks/one_process.py MODEL --prompts 100`. Pixels must be equal; processor time counts imports
and loading. The third line draws all prompts in one call, in batches: its pixels may differ in the last bits of sums.
"""

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue", "yellow", "purple")
SHAPES = ("circle", "square", "triangle", "star")
PLACES = ("above", "below", "to the left of", "to the right of")


def make_prompts(count: int) -> list[str]:
    """Return short texts, the first ones all different."""
    pairs = itertools.product(COLOURS, SHAPES, PLACES, COLOURS, SHAPES)
    texts = [f"a {colour} {shape} {place} a {other} {third}" for colour, shape, place, other, third in pairs]
    step = max(1, len(texts) // count)
    return [texts[(place * step) % len(texts)] for place in range(count)]


def draw(model: Path, prompts: list[str], out: Path, *, batched: bool) -> None:
    """Draw each prompt with its own seed into `out/NNN.png`, in this process."""
    from lavit import LaVIT

    lavit = LaVIT.from_pretrained(model)
    if batched:
        images = lavit.generate(prompts, seeds=0)
    else:
        images = [lavit.generate(prompt, seeds=seed)[0] for seed, prompt in enumerate(prompts)]
    for number, image in enumerate(images):
        image.save(out / f"{number:03d}.png")


def run_commands(model: Path, prompts: list[str], out: Path) -> None:
    """Draw each prompt with a `lavit generate` of its own."""
    for seed, prompt in enumerate(prompts):
        image = str(out / f"{seed:03d}.png")
        options = ["--model", str(model), "--out", image, "--seed", str(seed), "--best-of", "1", "--quiet"]
        subprocess.run(
            [sys.executable, "-m", "lavit_cli", "generate", prompt, *options], check=True, stdout=subprocess.DEVNULL
        )


def measure(name: str, job: Callable[[], None]) -> None:
    """Print the wall and processor seconds of a job's child processes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    job()
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name}: {wall:.1f} s, {cpu:.1f} CPU-s", flush=True)


def pixels_of(folder: Path) -> np.ndarray:
    """Return the images of a folder, int16 [N, h, w, 3]."""
    return np.stack([np.asarray(Image.open(file), dtype=np.int16) for file in sorted(folder.glob("*.png"))])


def main() -> None:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--only", choices=("single", "batched"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    prompts = make_prompts(given.prompts)
    if given.only:
        return draw(given.model, prompts, given.out, batched=given.only == "batched")
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch) / name for name in ("commands", "single", "batched")}
        for folder in folders.values():
            folder.mkdir()
        line = [sys.executable, __file__, str(given.model), "--prompts", str(given.prompts)]

        def in_one_process(how: str) -> None:
            subprocess.run([*line, "--only", how, "--out", str(folders[how])], check=True)

        measure("one process, a call a prompt", lambda: in_one_process("single"))
        measure("one process, all prompts in one call", lambda: in_one_process("batched"))
        measure(f"{given.prompts} processes", lambda: run_commands(given.model, prompts, folders["commands"]))
        expected, single, batched = (pixels_of(folders[name]) for name in ("commands", "single", "batched"))
    assert (single == expected).all(), "one process drew other pixels than the commands"
    different = np.abs(batched - expected)
    print(f"equal pixels; in batches {np.count_nonzero(different)} values differ, by {different.max()} at most")
    return None


if __name__ == "__main__":
    main()

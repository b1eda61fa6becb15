"""N prompts from stdin, and by 16 clients of a server: seconds, and which images are not the same.

`python stages/serve/benchmarks/hundred_prompts.py MODEL --prompts 100`: `lavit generate -` draws each prompt alone, as
a process a prompt would; a server draws them in batches, and with --max-batch 1. Processor seconds count imports and
loading. Needs the `lavit` command.
"""

import argparse
import base64
import concurrent.futures
import io
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue", "yellow", "purple")
SHAPES = ("circle", "square", "triangle", "star")
PLACES = ("above", "below", "to the left of", "to the right of")
CLIENTS = 16


def main() -> None:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompts", type=int, default=100)
    given = parser.parse_args()
    pairs = itertools.product(COLOURS, SHAPES, PLACES, COLOURS, SHAPES)
    texts = [f"a {colour} {shape} {place} a {other} {third}" for colour, shape, place, other, third in pairs]
    prompts = texts[:: max(1, len(texts) // given.prompts)][: given.prompts]
    print("| way | wall, s | CPU, s | images that differ | values that differ | by at most |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        began = usage()
        command = [sys.executable, "-m", "lavit_cli", "generate", "-", "--model", str(given.model), "--out", scratch]
        done = subprocess.run(
            [*command, "--quiet"], input="\n".join(prompts), capture_output=True, text=True, check=True
        )
        wall, cpu = since(began)
        files = [line.partition(": ")[0] for line in done.stdout.splitlines()]
        alone = np.stack([np.asarray(Image.open(file), dtype=np.int16) for file in files])
    print(f"| `lavit generate -` | {wall:.0f} | {cpu:.0f} | | | |", flush=True)
    for most in (16, 1):
        began = usage()
        drawn = served(given.model, prompts, most)
        wall, cpu = since(began)
        different = np.abs(drawn - alone)
        images = np.count_nonzero(different.reshape(len(prompts), -1).any(axis=1))
        found = f"{images} | {np.count_nonzero(different)} | {different.max()}"
        print(f"| {CLIENTS} clients, `--max-batch {most}` | {wall:.0f} | {cpu:.0f} | {found} |", flush=True)


def served(model: Path, prompts: list[str], max_batch: int) -> np.ndarray:
    """Return what a server draws of prompts that several clients send, int16 [N, h, w, 3]."""
    command = [sys.executable, "-m", "lavit_cli", "serve", str(model), "--port", "0", "--max-batch", str(max_batch)]
    process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2]

        def draw(prompt: str) -> np.ndarray:
            answer = httpx2.post(f"{url}/images/generations", json={"prompt": prompt}, timeout=300)
            content = base64.b64decode(answer.json()["data"][0]["b64_json"])
            return np.asarray(Image.open(io.BytesIO(content)), dtype=np.int16)

        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            return np.stack(list(pool.map(draw, prompts)))
    finally:
        process.terminate()
        process.wait()


def usage() -> tuple[float, float]:
    """Return the time, and the processor seconds of child processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic(), children.ru_utime + children.ru_stime


def since(began: tuple[float, float]) -> tuple[float, float]:
    """Return wall and processor seconds since `began`."""
    now = usage()
    return now[0] - began[0], now[1] - began[1]


if __name__ == "__main__":
    main()

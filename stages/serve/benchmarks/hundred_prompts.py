"""N prompts from stdin, by 16 clients of a server, by a process each: seconds, and which images are not the same.

`python stages/serve/benchmarks/hundred_prompts.py MODEL --prompts 100 --processes 100`: `lavit generate -` draws each
prompt alone; a server draws them in batches, and with --max-batch 1; --processes runs `lavit generate PROMPT` for the
first prompts, one after another. Processor seconds count imports and loading. Needs the `lavit` command.
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
from collections.abc import Sequence
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
    parser.add_argument("--processes", type=int, default=0, help="prompts that a process each draws too")
    given = parser.parse_args()
    pairs = itertools.product(COLOURS, SHAPES, PLACES, COLOURS, SHAPES)
    texts = [f"a {colour} {shape} {place} a {other} {third}" for colour, shape, place, other, third in pairs]
    prompts = texts[:: max(1, len(texts) // given.prompts)][: given.prompts]
    ways = {"`lavit generate -`": lambda: by_lines(given.model, prompts)}
    for most in (16, 1):
        ways[f"{CLIENTS} clients, `--max-batch {most}`"] = lambda most=most: served(given.model, prompts, most)
    if given.processes:
        ways[f"{given.processes} processes"] = lambda: by_processes(given.model, prompts[: given.processes])
    print("| way | wall, s | CPU, s | images that differ | values that differ | by at most |")
    print("|---|---|---|---|---|---|")
    alone = None
    for name, draw in ways.items():
        began = usage()
        drawn = draw()
        wall, cpu = since(began)
        alone = drawn if alone is None else alone
        different = np.abs(drawn - alone[: len(drawn)])
        images = np.count_nonzero(different.reshape(len(drawn), -1).any(axis=1))
        found = f"{images} | {np.count_nonzero(different)} | {different.max()}"
        print(f"| {name} | {wall:.0f} | {cpu:.0f} | {found} |", flush=True)


def by_lines(model: Path, prompts: list[str]) -> np.ndarray:
    """Return what one process draws of prompts that it reads from stdin, int16 [N, h, w, 3]."""
    with tempfile.TemporaryDirectory() as scratch:
        told = generate(model, "-", "--out", scratch, lines=prompts)
        return np.stack([pixels(line.partition(": ")[0]) for line in told.splitlines()])


def by_processes(model: Path, prompts: list[str]) -> np.ndarray:
    """Return what a process a prompt draws, int16 [N, h, w, 3]."""
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / f"{number}.png" for number in range(len(prompts))]
        for prompt, file in zip(prompts, files, strict=True):
            generate(model, prompt, "--out", str(file))
        return np.stack([pixels(file) for file in files])


def generate(model: Path, *arguments: str, lines: Sequence[str] = ()) -> str:
    """Run `lavit generate` and return what it prints."""
    command = [sys.executable, "-m", "lavit_cli", "generate", *arguments, "--model", str(model), "--quiet"]
    return subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True).stdout


def served(model: Path, prompts: list[str], max_batch: int) -> np.ndarray:
    """Return what a server draws of prompts that several clients send, int16 [N, h, w, 3]."""
    command = [sys.executable, "-m", "lavit_cli", "serve", str(model), "--port", "0", "--max-batch", str(max_batch)]
    process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2]

        def draw(prompt: str) -> np.ndarray:
            answer = httpx2.post(f"{url}/images/generations", json={"prompt": prompt}, timeout=300)
            return pixels(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))

        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            return np.stack(list(pool.map(draw, prompts)))
    finally:
        process.terminate()
        process.wait()


def pixels(file: str | Path | io.BytesIO) -> np.ndarray:
    """Return an image as int16 [h, w, 3]: differences do not wrap."""
    with Image.open(file) as image:
        return np.asarray(image, dtype=np.int16)


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

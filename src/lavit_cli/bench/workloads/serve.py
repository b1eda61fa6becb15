"""A server and its clients: images asked for at once share batches, beside a server that draws each alone.

CPU seconds are the servers' own. The model is the one of a command line that names none (docs/commands.md); the
miniature of the tests shows what a request costs beside the networks.
"""

import base64
import concurrent.futures
import contextlib
import io
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import numpy as np
import psutil
from lavit_core.default_model import model_or_default
from lavit_core.errors import InputError, UsageError
from PIL import Image

from lavit_cli.bench.comparison import Arm, BenchSettings, Comparison, Skipped, Unequal

COLOURS = ("red", "green", "blue", "yellow", "purple")
SHAPES = ("circle", "square", "triangle", "star")
CLIENTS = (1, 4, 16)
BATCH = 16


def compare(settings: BenchSettings) -> Iterator[Comparison | Skipped]:
    """Yield images for one client and more."""
    try:
        model = model_or_default(None, "tokenizer", "llm", "detokenizer")
    except UsageError as error:
        yield Skipped(name="images for clients", why=str(error))
        return
    requests = 128 if settings.full else 16
    name = model.parent.name if model.name == "model" else model.name
    with _server(str(model), settings.device, 1) as alone, _server(str(model), settings.device, BATCH) as shared:
        for clients in CLIENTS:
            yield Comparison(
                name=f"images for {clients} clients",
                size=f"{requests} requests of an image, model {name}",
                dtype="",
                baseline=_arm("--max-batch 1", alone, clients, requests),
                ours=_arm(f"--max-batch {BATCH}", shared, clients, requests),
                equal=_near_pixels,
                unit="images",
                amount=requests,
                curve="clients",
                at=clients,
                pairs=None if settings.full else 3,
            )


Server = tuple[str, psutil.Process]
"""Its URL and its process."""


@contextlib.contextmanager
def _server(model: str, device: str, max_batch: int) -> Iterator[Server]:
    """Run a server while the block lasts."""
    command = [sys.executable, "-m", "lavit_cli", "serve", model, "--port", "0", "--max-batch", str(max_batch)]
    process = subprocess.Popen([*command, "--device", device, "--quiet"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        if len(words) < 3:
            raise InputError(f"{model}: `lavit serve` ended with {process.wait()}; run it alone to see why")
        yield words[2], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _arm(name: str, server: Server, clients: int, requests: int) -> Arm:
    url, process = server

    def clock() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    def run() -> list[np.ndarray]:
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            return list(pool.map(lambda turn: _ask(url, turn), range(requests)))

    return Arm(name=name, run=run, clock=clock)


def _ask(url: str, turn: int) -> np.ndarray:
    """Return the pixels of one request's image."""
    prompt = f"a {COLOURS[turn % len(COLOURS)]} {SHAPES[turn % len(SHAPES)]}"
    body = json.dumps({"prompt": prompt, "seed": turn}).encode()
    request = urllib.request.Request(f"{url}/images/generations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        content = base64.b64decode(json.load(answer)["data"][0]["b64_json"])
    return np.asarray(Image.open(io.BytesIO(content)), dtype=np.int16)


def _near_pixels(theirs: list[np.ndarray], ours: list[np.ndarray]) -> str:
    most = max(int(np.abs(one - other).max()) for one, other in zip(theirs, ours, strict=True))
    alike = sum(np.array_equal(one, other) for one, other in zip(theirs, ours, strict=True))
    if most > 1:
        raise Unequal(f"values differ by up to {most} of 255, expected at most 1")
    return f"{alike} of {len(ours)} images equal, no value of another differs by more than 1 of 255"

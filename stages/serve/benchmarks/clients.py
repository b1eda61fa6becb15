"""Clients that ask a server for one image after another: `python stages/serve/benchmarks/clients.py MODEL`.

Starts `lavit serve` anew for each number of clients. A request is one image of a prompt of its own with the model's own
settings. Processor seconds are the server's alone, after it has loaded. The last row is one client without a server,
who runs `lavit generate` for each image.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx2
import numpy as np
import psutil
from hundred_prompts import COLOURS, SHAPES, generate, since, usage


def main() -> None:
    """Print a row for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--max-batch", default="16")
    parser.add_argument("--wait", default="0.01", help="the server's batch_wait_seconds")
    parser.add_argument("--precision", default="auto", help="the server's: auto, fp32 or bf16")
    parser.add_argument("--no-processes", action="store_true", help="leave out the last row")
    given = parser.parse_args()
    print("| clients | requests | requests a CPU second | requests a second | p50, s | p99, s | images a batch |")
    print("|---|---|---|---|---|---|---|")
    for count in given.clients:
        limits = ["--max-batch", given.max_batch, "--set", f"batch_wait_seconds={given.wait}"]
        limits += ["--precision", given.precision]
        print(measure(given.model, count, given.seconds, limits), flush=True)
    if not given.no_processes:
        print(measure_processes(given.model, given.seconds), flush=True)


def measure(model: Path, count: int, seconds: float, limits: list[str]) -> str:
    """Return the row of `count` clients that ask for `seconds`."""
    command = [sys.executable, "-m", "lavit_cli", "serve", str(model), "--port", "0", *limits]
    process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2].removesuffix("/v1")
        http = httpx2.Client(base_url=url, timeout=300, limits=httpx2.Limits(max_connections=count))
        ask(http, 0, 0)
        before, began = cpu_seconds(process.pid), time.monotonic()
        times: list[float] = []

        def client(number: int) -> None:
            turn = 0
            while time.monotonic() - began < seconds:
                times.append(ask(http, number, turn))
                turn += 1

        threads = [threading.Thread(target=client, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall, cpu = time.monotonic() - began, cpu_seconds(process.pid) - before
        text = http.get("/metrics").text
        rows, batches = (metric(text, f"lavit_batch_rows_{kind}") for kind in ("sum", "count"))
    finally:
        process.terminate()
        process.wait()
    return row(str(count), times, cpu, wall, f"{rows / batches:.1f}")


def measure_processes(model: Path, seconds: float) -> str:
    """Return the row of a client who starts a process for each image, for `seconds`."""
    began, times = usage(), []
    with tempfile.TemporaryDirectory() as scratch:
        while sum(times) < seconds:
            before = time.monotonic()
            generate(model, prompt_of(0, len(times)), "--seed", str(len(times)), "--out", f"{scratch}/{len(times)}.png")
            times.append(time.monotonic() - before)
    wall, cpu = since(began)
    return row("a process a request", times, cpu, wall, "1.0")


def row(name: str, times: list[float], cpu: float, wall: float, batch: str) -> str:
    """Return a row of the table; `times` are the seconds of each request."""
    half, most = np.percentile(times, [50, 99])
    rates = f"{len(times) / cpu:.2f} | {len(times) / wall:.2f}"
    return f"| {name} | {len(times)} | {rates} | {half:.2f} | {most:.2f} | {batch} |"


def ask(http: httpx2.Client, client: int, turn: int) -> float:
    """Return the seconds of one request."""
    body = {"prompt": prompt_of(client, turn), "seed": 1000 * client + turn}
    began = time.monotonic()
    answer = http.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    return time.monotonic() - began


def prompt_of(client: int, turn: int) -> str:
    """Return the prompt of a client's request."""
    return f"a {COLOURS[client % 5]} {SHAPES[turn % 4]}"


def cpu_seconds(process: int) -> float:
    """Return the processor seconds that a process has taken."""
    taken = psutil.Process(process).cpu_times()
    return float(taken.user + taken.system)


def metric(text: str, name: str) -> float:
    """Return one value of Prometheus' text."""
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found.group(1))


if __name__ == "__main__":
    main()

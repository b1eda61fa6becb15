"""CPU seconds and seconds of `lavit tokenize-images` with workers and with Ray, all processes counted (Linux).

OMP_NUM_THREADS=1 python stages/tokenizer/benchmarks/engines.py DATA MODEL --rounds 2

Processes are known by a mark in their environment, and looked at five times a second: what a process uses after the
last look is not seen. The rate without starting is the difference of two data sets of different size.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

MARK = "LAVIT_BENCHMARK"
LOOKS = 25
"""Looks at a process for the mark: one that was just forked has the environment of its parent."""

ENGINES = {
    "--workers 0": ["--workers", "0"],
    "--workers 1": ["--workers", "1"],
    "--workers 2": ["--workers", "2"],
    "--engine ray": ["--engine", "ray", "--workers", "1"],
}


def main() -> None:
    """Print a row an engine and round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    print("| engine | CPU, s | wall, s |\n|---|---|---|")
    for _ in range(asked.rounds):
        for name, options in ENGINES.items():
            with tempfile.TemporaryDirectory() as out:
                line = ["tokenize-images", asked.data, "--model", asked.model, "--out", f"{out}/tokens", "--quiet"]
                cpu, wall = measured([sys.executable, "-m", "lavit_cli", *map(str, line), *options])
            print(f"| {name} | {cpu:.1f} | {wall:.1f} |", flush=True)


def measured(line: list[str]) -> tuple[float, float]:
    """Run a command; return the CPU seconds of all its processes, and its seconds."""
    mark, began = uuid.uuid4().hex, time.perf_counter()
    child = subprocess.Popen(line, env={**os.environ, MARK: mark}, stdout=subprocess.DEVNULL)
    seconds: dict[tuple[str, str], float] = {}
    looks: dict[tuple[str, str], int] = {}
    while child.poll() is None:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                process = (pid, values[19])  # with its start: numbers are used again
                looks[process] = looks.get(process, 0) + 1
                if process in seconds or (
                    looks[process] <= LOOKS and f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
                ):
                    seconds[process] = (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
            except OSError:
                continue  # it has ended
        time.sleep(0.2)
    if child.returncode:
        raise SystemExit(child.returncode)
    return sum(seconds.values()), time.perf_counter() - began


if __name__ == "__main__":
    main()

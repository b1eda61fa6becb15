"""`lavit doctor`: what this machine and this environment can do, and the line that repairs what is broken."""

import dataclasses
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from lavit_cli.plugins import INSTALL, KNOWN, find_commands

State = Literal["ok", "warning", "broken"]

LIBRARIES = ("torch", "transformers", "diffusers", "accelerate", "safetensors", "tokenizers", "numpy", "pillow")

MATMUL_SIDE = 256
LARGEST_ERROR = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 5e-3}
"""Relative error of a 256-wide product that rounding explains; more means that the kernel is wrong."""

LOW_DISK_BYTES = 2 << 30
LOW_MEMORY_BYTES = 4 << 30
"""The embedded default peaks below 4 GB and writes less than 2 GB."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the examination; `fix` says what to type when it is not ok."""

    group: str
    name: str
    state: State
    value: str
    fix: str = ""


def examine() -> list[Check]:
    """Run every check; none of them writes, and none uses the network."""
    return [*_machine(), *_libraries(), *_torchvision(), *_devices(), *_stages()]


def show(checks: list[Check], *, as_json: bool) -> None:
    """Write the checks to stdout as a table, or as one JSON object."""
    broken = sum(check.state == "broken" for check in checks)
    if as_json:
        rows = [dataclasses.asdict(check) for check in checks]
        sys.stdout.write(json.dumps({"broken": broken, "checks": rows}) + "\n")
        return
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {"ok": "green", "warning": "yellow", "broken": "red"}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("", "what", "found"):
        table.add_column(title, overflow="fold")
    group = ""
    for check in checks:
        if check.group != group:
            table.add_row("", f"[bold]{check.group}[/bold]", "", end_section=False)
            group = check.group
        fix = f"\n[bold]-> {escape(check.fix)}[/bold]" if check.fix else ""
        table.add_row(f"[{colours[check.state]}]{check.state}[/]", f"  {escape(check.name)}", escape(check.value) + fix)
    console = Console()
    console.print(table)
    console.print(f"\n{broken} broken" if broken else "\nall works; begin with `lavit quickstart --out runs/demo`")


def _machine() -> Iterator[Check]:
    yield Check(
        group="machine", name="python", state="ok", value=f"{platform.python_version()} on {platform.platform()}"
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    yield Check(
        group="machine",
        name="cores",
        state="ok",
        value=f"{cores}" + (f", OMP_NUM_THREADS={threads}" if threads else ""),
    )
    memory = _available_memory()
    if memory is not None:
        low = memory < LOW_MEMORY_BYTES
        fix = "close other programs: the embedded default needs up to 4 GB" if low else ""
        yield Check(
            group="machine",
            name="free memory",
            state="warning" if low else "ok",
            value=f"{memory / 1e9:.1f} GB",
            fix=fix,
        )
    for name, folder in (("free disk here", Path.cwd()), ("free disk for scratch files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free
        low = free < LOW_DISK_BYTES
        fix = "free some space, or give an --out elsewhere" if low else ""
        value = f"{free / 1e9:.1f} GB at {folder}"
        yield Check(group="machine", name=name, state="warning" if low else "ok", value=value, fix=fix)


def _available_memory() -> int | None:
    """Bytes this process may still take: what the kernel reports, or less where a container sets a limit."""
    amounts = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        amounts.append(int(fields["MemAvailable"].split()[0]) * 1024)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text(encoding="ascii").strip()) != "max":
        amounts.append(int(text) - int(used.read_text(encoding="ascii")))
    return min(amounts) if amounts else None


def _libraries() -> Iterator[Check]:
    for name in LIBRARIES:
        try:
            version = importlib.metadata.version(name)
            importlib.import_module("PIL.Image" if name == "pillow" else name)
        except importlib.metadata.PackageNotFoundError:
            fix = f"pip install -c constraints.txt {name}"
            yield Check(group="libraries", name=name, state="warning", value="not installed", fix=fix)
        # A library that fails to import does so in any way (OSError, RuntimeError, AttributeError).
        except Exception as error:  # noqa: BLE001
            fix = f"pip install --force-reinstall -c constraints.txt {name}"
            yield Check(group="libraries", name=name, state="broken", value=_one_line(error), fix=fix)
        else:
            yield Check(group="libraries", name=name, state="ok", value=version)


def _torchvision() -> Iterator[Check]:
    """Nothing here uses torchvision; a build for another torch breaks the import of transformers' image classes."""
    try:
        version = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return
    probe = [sys.executable, "-c", "import torchvision"]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=120, check=False)
    fix = "pip uninstall torchvision (lavit never uses it)"
    if done.returncode == 0:
        value = f"{version} is installed: transformers may pick other image kernels because of it"
        yield Check(group="libraries", name="torchvision", state="warning", value=value, fix=fix)
    else:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        value = f"{version} does not import ({last})"
        yield Check(group="libraries", name="torchvision", state="broken", value=value, fix=fix)


def _devices() -> Iterator[Check]:
    try:
        import torch
    except Exception:  # noqa: BLE001 - already reported among the libraries
        return
    names = ["cpu"] + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    for name in names:
        label = "cpu" if name == "cpu" else f"{name} {torch.cuda.get_device_name(name)}"
        for dtype, largest in LARGEST_ERROR.items():
            yield _matmul(name, label, dtype, largest)
    if len(names) == 1:
        yield Check(group="devices", name="cuda", state="ok", value="none; the tiny preset needs none")


def _matmul(device: str, label: str, dtype: str, largest: float) -> Check:
    """Multiply two small matrices and compare with float64; the speed is a hint, not a benchmark."""
    import torch

    generator = torch.Generator().manual_seed(0)
    left = torch.randn(MATMUL_SIDE, MATMUL_SIDE, generator=generator, dtype=torch.float64)
    try:
        here = left.to(device=device, dtype=getattr(torch, dtype))
        exact = here.double().cpu() @ here.double().cpu()
        (here @ here).cpu()  # the first call pays for loading the kernel
        began = time.perf_counter()
        product = (here @ here).double().cpu()
        seconds = time.perf_counter() - began
    # Whatever a backend says of a dtype it does not know is the answer: RuntimeError, TypeError or kinds of its own.
    except Exception as error:  # noqa: BLE001
        state: State = "broken" if dtype == "float32" else "warning"
        return Check(
            group="devices", name=f"{label} {dtype}", state=state, value=_one_line(error), fix="use another --device"
        )
    error_share = float((product - exact).norm() / exact.norm())
    speed = 2 * MATMUL_SIDE**3 / seconds / 1e9
    if not error_share < largest:
        value = f"wrong product: relative error {error_share:.1e}, expected below {largest:.0e}"
        return Check(group="devices", name=f"{label} {dtype}", state="broken", value=value, fix="reinstall torch")
    value = f"works, {speed:.0f} GFLOP/s on a small product"
    return Check(group="devices", name=f"{label} {dtype}", state="ok", value=value)


def _stages() -> Iterator[Check]:
    commands = find_commands()
    for distribution in dict.fromkeys(["lavit-core", *(known for _, known in KNOWN.values())]):
        fix = INSTALL[distribution]
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            yield Check(group="stages", name=distribution, state="warning", value="not installed", fix=fix)
            continue
        problems = [f"{c.name} {c.problem}" for c in commands if c.distribution == distribution and c.problem]
        api = f"{distribution.replace('-', '_')}.api"
        if distribution not in ("lavit", "lavit-core"):
            try:
                importlib.import_module(api)
            # Whatever stops a stage from loading is what the reader wants to see.
            except Exception as error:  # noqa: BLE001
                problems.append(f"{api}: {_one_line(error)}")
        verbs = ", ".join(c.name for c in commands if c.distribution == distribution)
        if problems:
            yield Check(group="stages", name=distribution, state="broken", value="; ".join(problems), fix=fix)
        else:
            yield Check(group="stages", name=distribution, state="ok", value=f"{version}: {verbs}")


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"

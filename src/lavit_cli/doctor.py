"""`lavit doctor`: checks of the machine and the environment, each with the command that repairs what is broken."""

import dataclasses
import importlib
import importlib.util
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

import typer
from lavit_core.distributions import LIBRARIES, install_command, installed, module_name, names, version

from lavit_cli.output import print_table
from lavit_cli.plugins import find_commands, one_line

State = Literal["ok", "warning", "broken"]
COLOURS = {"ok": "green", "warning": "yellow", "broken": "red"}

MATMUL_SIDE = 256
LARGEST_ERROR = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 5e-3}
"""Relative error of a 256-wide product that rounding explains; more means that the kernel is wrong."""

LOW_DISK_BYTES = 2 << 30
LOW_MEMORY_BYTES = 4 << 30
"""The embedded default peaks below 4 GB and writes less than 2 GB."""


@dataclasses.dataclass(frozen=True)
class Check:
    """Result of one check; `fix` is what to type when the state is not ok."""

    group: str
    name: str
    state: State
    value: str
    fix: str = ""


def examine() -> list[Check]:
    """Run every check; none of them writes, and none uses the network."""
    return [*_machine(), *_libraries(), *check_torchvision(), *_devices(), *_stages()]


def show(checks: list[Check], *, as_json: bool) -> None:
    """Write the checks to stdout as a table, or as one JSON object."""
    broken = sum(check.state == "broken" for check in checks)
    if as_json:
        typer.echo(json.dumps({"broken": broken, "checks": [dataclasses.asdict(check) for check in checks]}))
        return
    from rich.markup import escape

    rows, group = [], ""
    for check in checks:
        if check.group != group:
            group = check.group
            rows.append(("", f"[bold]{group}[/bold]", ""))
        fix = f"\n[bold]-> {escape(check.fix)}[/bold]" if check.fix else ""
        state = f"[{COLOURS[check.state]}]{check.state}[/]"
        rows.append((state, f"  {escape(check.name)}", escape(check.value) + fix))
    print_table(("", "what", "found"), rows)
    typer.echo(f"\n{broken} broken" if broken else "\nall works; begin with `lavit quickstart --out runs/demo`")


def _machine() -> Iterator[Check]:
    yield Check("machine", "python", "ok", f"{platform.python_version()} on {platform.platform()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    yield Check("machine", "cores", "ok", f"{cores}, OMP_NUM_THREADS={threads}" if threads else str(cores))
    if (memory := _available_memory()) is not None:
        fix = "close other programs: the embedded default needs up to 4 GB"
        yield _amount("free memory", memory, LOW_MEMORY_BYTES, fix)
    for name, folder in (("free disk here", Path.cwd()), ("free disk for scratch files", Path(tempfile.gettempdir()))):
        fix = "free some space, or give an --out elsewhere"
        yield _amount(name, shutil.disk_usage(folder).free, LOW_DISK_BYTES, fix, f" at {folder}")


def _amount(name: str, found: int, floor: int, fix: str, where: str = "") -> Check:
    low = found < floor
    return Check("machine", name, "warning" if low else "ok", f"{found / 1e9:.1f} GB{where}", fix if low else "")


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
        install = f"pip install -c constraints.txt {name}"
        found = version(name)
        if found is None:
            yield Check("libraries", name, "warning", "not installed", install)
        elif problem := _import_error("PIL.Image" if name == "pillow" else name):
            yield Check("libraries", name, "broken", problem, install.replace("install", "install --force-reinstall"))
        else:
            yield Check("libraries", name, "ok", found)


def check_torchvision() -> Iterator[Check]:
    """Yield a warning if torchvision is installed, and an error if it does not import.

    Nothing here uses it; a build for another torch breaks the import of transformers' image classes.
    """
    found_version = version("torchvision")
    if found_version is None:
        return
    probe = [sys.executable, "-c", "import torchvision"]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=120, check=False)
    state: State = "broken" if done.returncode else "warning"
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    found = f"does not import ({last})"
    if state == "warning":
        found = "is installed: transformers may pick other image kernels because of it"
    yield Check(
        "libraries", "torchvision", state, f"{found_version} {found}", "pip uninstall torchvision (lavit never uses it)"
    )


def _devices() -> Iterator[Check]:
    if _import_error("torch"):  # already reported among the libraries
        return
    import torch

    names = ["cpu"] + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    for name in names:
        label = "cpu" if name == "cpu" else f"{name} {torch.cuda.get_device_name(name)}"
        for dtype in LARGEST_ERROR:
            yield Check("devices", f"{label} {dtype}", *_matmul(name, dtype))
    if len(names) == 1:
        yield Check("devices", "cuda", "ok", "none; the tiny preset needs none")


def _matmul(device: str, dtype: str) -> tuple[State, str, str]:
    """Multiply two small matrices and compare with float64: state, value, fix. The speed is a hint, not a benchmark."""
    import torch

    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(MATMUL_SIDE, MATMUL_SIDE, generator=generator, dtype=torch.float64)
    try:
        here = matrix.to(device=device, dtype=getattr(torch, dtype))
        exact = here.double().cpu() @ here.double().cpu()
        (here @ here).cpu()  # the first call pays for loading the kernel
        began = time.perf_counter()
        product = (here @ here).double().cpu()
        seconds = time.perf_counter() - began
    # A backend refuses a dtype it does not know with RuntimeError, TypeError or errors of its own.
    except Exception as error:  # noqa: BLE001
        return "broken" if dtype == "float32" else "warning", one_line(error), "use another --device"
    relative = float((product - exact).norm() / exact.norm())
    if not relative < LARGEST_ERROR[dtype]:
        expected = f"expected below {LARGEST_ERROR[dtype]:.0e}"
        return "broken", f"wrong product: relative error {relative:.1e}, {expected}", "reinstall torch"
    speed = f"works, {2 * MATMUL_SIDE**3 / seconds / 1e9:.0f} GFLOP/s on a small product"
    if dtype == "bfloat16" and not _computes_bf16(device):
        speed += "; not computed by this device itself, so trainings take fp32 (precision: auto)"
    return "ok", speed, ""


def _computes_bf16(device: str) -> bool:
    if importlib.util.find_spec("lavit_trainkit") is None:  # no stage that trains
        return True
    from lavit_trainkit.precision import computes_bf16

    return computes_bf16(device.split(":")[0])


def _stages() -> Iterator[Check]:
    commands, versions = [one for command in find_commands() for one in (command, *command.inner)], installed()
    for distribution in names():
        fix = install_command(distribution)
        if distribution not in versions:
            yield Check("stages", distribution, "warning", "not installed", fix)
            continue
        own = [command for command in commands if command.distribution == distribution]
        problems = [f"{command.name} {command.problem}" for command in own if command.problem]
        module = module_name(distribution)
        for part in (module, f"{module}.api"):
            if (part == module or importlib.util.find_spec(part)) and (problem := _import_error(part)):
                problems.append(f"{part}: {problem}")
                break
        if problems:
            yield Check("stages", distribution, "broken", "; ".join(problems), fix)
        else:
            listed = ", ".join(command.name for command in own)
            value = f"{versions[distribution]}: {listed}" if own else versions[distribution]
            yield Check("stages", distribution, "ok", value)


def _import_error(module: str) -> str:
    """Return why a module can't be imported, or an empty string."""
    try:
        importlib.import_module(module)
    # A library that fails to import does so in any way (OSError, RuntimeError, AttributeError).
    except Exception as error:  # noqa: BLE001
        return one_line(error)
    return ""

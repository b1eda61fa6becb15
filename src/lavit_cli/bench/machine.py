"""The machine: what it is, and how fast its matrix product is, against which every workload is held."""

import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from lavit_core.distributions import version
from lavit_trainkit.onednn import OnednnLinear, onednn_works

from lavit_cli.bench.comparison import BenchSettings
from lavit_cli.bench.pairs import seconds_of
from lavit_cli.bench.record import Machine

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ROWS, WIDTH, HIDDEN = 512, 1408, 6144
"""Of the calibrating product on a CPU: an MLP's first layer at the published width; a GPU gets 64 times the rows."""
CALIBRATIONS = 5


def describe(settings: BenchSettings) -> Machine:
    """Return what the machine is; times a few matrix products."""
    cuda = settings.device.startswith("cuda")
    packages = ("torch", "transformers", "diffusers", "numpy", "pillow")
    found = {name: found for name in packages if (found := version(name))}
    return Machine(
        processor=processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        device=torch.cuda.get_device_name(settings.device) if cuda else "cpu",
        threads=torch.get_num_threads(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        versions={"python": platform.python_version(), **found},
        matmul={name: max(run() for _ in range(CALIBRATIONS)) for name, run in kernels(settings).items()},
    )


def processor() -> str:
    """Return the processor's name, as Linux reports it, else as Python does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def matmuls(settings: BenchSettings) -> dict[str, Callable[[], float]]:
    """Return the calibrating products by precision: each call does one and returns its operations a second.

    fp32 on a CPU takes the faster of torch's two kernels, since either is open to a program.
    """
    kinds = kernels(settings)
    return {
        dtype: lambda dtype=dtype: max(run() for name, run in kinds.items() if name.startswith(dtype))  # type: ignore[misc]
        for dtype in settings.dtypes
    }


def kernels(settings: BenchSettings) -> dict[str, Callable[[], float]]:
    """Return the calibrating products by precision and kernel."""
    found = {"fp32 torch": _matmul("fp32", settings), "bf16": _matmul("bf16", settings)}
    if settings.device == "cpu" and onednn_works():
        found["fp32 oneDNN"] = _matmul("fp32", settings, OnednnLinear)
    return found


def _matmul(
    dtype: str, settings: BenchSettings, around: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Callable[[], float]:
    rows = ROWS if settings.device == "cpu" else 64 * ROWS
    stream = torch.Generator().manual_seed(settings.seed)
    x, weight = (
        torch.randn(*shape, generator=stream).to(settings.device, DTYPES[dtype])
        for shape in ((rows, WIDTH), (HIDDEN, WIDTH))
    )

    def run() -> float:
        with torch.no_grad(), around():
            seconds = seconds_of(lambda: F.linear(x, weight), settings.device)
        return 2 * rows * WIDTH * HIDDEN / seconds

    run()  # warms up
    return run

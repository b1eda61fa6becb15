"""Sample images of a training that goes on as if nobody had looked.

with unchanged(network):
    session.show(done, sheets_of(network))
"""

import contextlib
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from lavit_core.errors import UsageError
from lavit_core.files import write_bytes
from lavit_core.follow import FollowOptions
from lavit_core.images import png_bytes
from torch import nn

from lavit_trainkit.parallel import Parallel, is_sharded

FOLDER = "samples"
SHOWN = 8
"""Images on a sheet."""

Sheets = Mapping[str, np.ndarray]
"""Named images uint8 [h, w, 3]."""


def check_samples(follow: FollowOptions, parallel: Parallel) -> None:
    """Refuse samples of a network that no process holds whole. Raises UsageError."""
    if follow.sample_every and is_sharded(parallel):
        raise UsageError(
            "--sample-every with setting parallel: fsdp, but no process holds the whole network; leave it out, or set "
            "parallel to ddp"
        )


@contextlib.contextmanager
def unchanged(*networks: nn.Module) -> Iterator[None]:
    """Put networks in evaluation mode without gradients; afterwards their modes and all random streams are as before.

    Streams: torch's on the CPU and on the networks' GPUs, numpy's, Python's.
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    devices = {parameter.device for network in networks for parameter in network.parameters()}
    kept_python, kept_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device for device in devices if device.type == "cuda"]), torch.no_grad():
        for network in networks:
            network.eval()
        try:
            yield
        finally:
            for module, was in modes:
                module.training = was
            random.setstate(kept_python)
            np.random.set_state(kept_numpy)


def write_sheets(run: Path, step: int, sheets: Sheets) -> dict[str, Path]:
    """Write RUN/samples/STEP-NAME.png of each sheet and return the files by name."""
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    files = {name: folder / f"{step:08d}-{name}.png" for name in sheets}
    for name, file in files.items():
        write_bytes(file, png_bytes(sheets[name]))
    return files

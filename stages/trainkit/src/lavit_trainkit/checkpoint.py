"""Checkpoints that are whole or absent: folders of safetensors with digests, renamed into place; the newest valid wins.

No RNG state is stored: every random draw is a function of (seed, purpose, step), see lavit_core.seeds.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lavit_core.errors import InputError, VerificationError
from lavit_core.files import atomic_folder, file_sha256, read_json, write_json
from lavit_core.progress import warn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

STATE_FILE = "state.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What was saved after `step` finished steps: named groups of tensors, and plain JSON state."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any] | None = None,
    *,
    keep: int = 2,
) -> Path:
    """Write `folder/step-XXXXXXXX/` atomically, one safetensors file per group, and drop all but the newest `keep`."""
    target = folder / f"step-{step:08d}"
    with atomic_folder(target) as scratch:
        digests = {}
        for group, content in tensors.items():
            file = scratch / f"{group}.safetensors"
            save_file({name: value.detach().contiguous().cpu().clone() for name, value in content.items()}, file)
            digests[file.name] = file_sha256(file)
        write_json(scratch / STATE_FILE, {"step": step, "state": dict(state or {}), "sha256": digests})
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return target


def load_newest(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint whose digests hold, or None; a damaged one is named and passed over."""
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        try:
            about = read_json(candidate / STATE_FILE)
            for name, digest in about["sha256"].items():
                if not (candidate / name).exists() or file_sha256(candidate / name) != digest:
                    raise VerificationError(f"{candidate}: {name} damaged or missing")
        except (InputError, VerificationError) as error:
            warn(f"{error}; using an older checkpoint")
            continue
        tensors = {name.removesuffix(".safetensors"): load_file(candidate / name) for name in about["sha256"]}
        return Checkpoint(step=about["step"], tensors=tensors, state=about["state"])
    return None


class Ema:
    """Exponential moving average of a module's parameters: shadow = decay * shadow + (1 - decay) * now."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: value.detach().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the shadow one step towards the module."""
        names, values = zip(*module.named_parameters(), strict=True)
        torch._foreach_lerp_(
            [self.shadow[name] for name in names], [value.detach() for value in values], 1 - self.decay
        )

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Overwrite the module's parameters with the shadow."""
        for name, value in module.named_parameters():
            value.copy_(self.shadow[name])

"""Checkpoints that are whole or absent: folders of safetensors with digests, renamed into place; the newest valid wins.

No RNG state is stored: every random draw is a function of (seed, purpose, step), see lavit_core.seeds.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lavit_core.checkpoints import STATE_FILE, check_checkpoint, checkpoint_folders, read_state
from lavit_core.digests import with_digest
from lavit_core.errors import InputError, VerificationError
from lavit_core.files import atomic_folder, file_sha256, write_chunks, write_json
from lavit_core.processes import is_main
from lavit_core.progress import warn
from lavit_core.safetensors_stream import safetensors_chunks
from safetensors.torch import load_file
from torch import Tensor

from lavit_trainkit.distributed import from_main
from lavit_trainkit.parallel import full_tensor

TYPE_NAMES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""safetensors' names of the types a checkpoint may hold, in the order of its files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state after `step` finished steps: named groups of tensors, and plain JSON state."""

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
    """Write `folder/step-<number>/` atomically, one safetensors file a group of tensors; return that folder.

    All but the newest `keep` are dropped. All processes of a job call it, and the first writes; sharded tensors are
    gathered one at a time.
    """
    target = folder / f"step-{step:08d}"
    if not is_main():
        for content in tensors.values():
            for value in _in_file_order(content).values():
                full_tensor(value)
        return target
    with atomic_folder(target) as scratch:
        digests = {}
        for group, values in tensors.items():
            file = scratch / f"{group}.safetensors"
            write_chunks(file, _safetensors(values))
            digests[file.name] = file_sha256(file)
        # Through JSON once: the digest is of what a reader finds (keys that are numbers become strings).
        content = json.loads(json.dumps({"step": step, "state": dict(state or {}), "files": digests}))
        write_json(scratch / STATE_FILE, with_digest(content))
    for old in checkpoint_folders(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def _in_file_order(content: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in the order of safetensors' own writer: by type, widest first (so each is aligned), and name."""
    ranks = {dtype: rank for rank, dtype in enumerate(TYPE_NAMES)}
    return dict(sorted(content.items(), key=lambda item: (ranks[item[1].dtype], item[0])))


def _safetensors(content: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Return the bytes of a safetensors file; no more than one tensor is gathered and held at a time."""
    ordered = _in_file_order(content)
    layout = {
        name: (TYPE_NAMES[value.dtype], tuple(value.shape), value.numel() * value.element_size())
        for name, value in ordered.items()
    }
    plain = (full_tensor(value).detach().cpu().contiguous() for value in ordered.values())
    return safetensors_chunks(layout, (value.flatten().view(torch.uint8).numpy().data for value in plain))


def load_newest(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint whose digests hold, or None; a damaged one is reported and skipped.

    The first process chooses, and all of them map its files.
    """
    chosen = from_main(_newest_whole(folder) if is_main() else None)
    if chosen is None:
        return None
    stored = read_state(chosen)
    tensors = {name.removesuffix(".safetensors"): load_file(chosen / name) for name in stored["files"]}
    return Checkpoint(step=stored["step"], tensors=tensors, state=stored["state"])


def _newest_whole(folder: Path) -> Path | None:
    candidates = checkpoint_folders(folder)[::-1]
    for place, candidate in enumerate(candidates):
        try:
            check_checkpoint(candidate)
        except (InputError, VerificationError) as error:
            older = place + 1 < len(candidates)
            warn(f"{error}; {'using an older checkpoint' if older else 'none is whole: starting over from step 0'}")
            continue
        return candidate
    return None

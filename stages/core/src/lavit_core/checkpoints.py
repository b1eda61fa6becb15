"""Checkpoint folders on disk, checked without torch: state.json with digests of itself and of the tensor files."""

import os
import re
from pathlib import Path
from typing import Any

from lavit_core.digests import check_digest
from lavit_core.errors import InputError, VerificationError
from lavit_core.files import file_sha256, read_json

STATE_FILE = "state.json"


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the checkpoints of a run's `checkpoints/`, oldest first; folders of other names are none."""
    return sorted(path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return `step`, `state` and `files` (SHA-256 by file name) of a checkpoint.

    Raises InputError if state.json is missing or malformed, VerificationError if it was changed.
    """
    file = checkpoint / STATE_FILE
    stored = read_json(file)
    if not isinstance(stored, dict):
        raise InputError(f"{file}: found {type(stored).__name__}, expected the state of a checkpoint")
    if isinstance(stored.get("sha256"), dict):  # written before state.json had a digest of itself
        stored = {"step": stored.get("step"), "state": stored.get("state"), "files": stored["sha256"]}
    else:
        stored, has_digest = check_digest(file, stored)
        if not has_digest:
            raise VerificationError(f"{file}: no digest in it, expected one")
    step, state, files = stored.get("step"), stored.get("state"), stored.get("files")
    if type(step) is not int or step < 0 or not isinstance(state, dict) or not isinstance(files, dict) or not files:
        raise InputError(f"{file}: expected a step, a state and digests of files")
    if step != int(checkpoint.name.removeprefix("step-")):
        raise VerificationError(f"{file}: step {step}, expected that of the folder's name")
    return stored


def check_checkpoint(checkpoint: Path) -> int:
    """Check every byte of a checkpoint; return how many there are. Raises InputError or VerificationError naming it."""
    size = (checkpoint / STATE_FILE).stat().st_size if (checkpoint / STATE_FILE).is_file() else 0
    for name, digest in read_state(checkpoint)["files"].items():
        file = checkpoint / Path(name).name
        if not os.path.isfile(file):
            raise VerificationError(f"{file}: missing, expected a file of the checkpoint")
        if (found := file_sha256(file)) != digest:
            raise VerificationError(f"{file}: SHA-256 {found[:12]}, expected {str(digest)[:12]}: damaged")
        size += file.stat().st_size
    return size

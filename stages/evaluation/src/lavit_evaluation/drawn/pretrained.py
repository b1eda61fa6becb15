"""Networks that metrics look through, from local transformers directories: with every weight, or not at all."""

from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.files import file_sha256


def load_pretrained(kind: Any, folder: Path, *, option: str, what: str, **arguments: Any) -> Any:
    """Return `kind.from_pretrained(folder)`, frozen.

    Raises InputError, naming the option, when it is none or lacks weights: transformers would draw those at random, and
    the figure would mean nothing.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        network, report = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True, **arguments)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{option} {folder}: not a {what} ({' '.join(str(error).split())[:200]})") from None
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"{option} {folder}: {len(missing)} weights of {what} are missing (first: {missing[0]}), expected all"
        )
    return network.eval().requires_grad_(False)


def weight_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each weights file of a transformers directory."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    return {file.name: file_sha256(file) for file in files}

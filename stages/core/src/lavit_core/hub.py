"""Repositories of the Hugging Face hub by name, when the user allows the network."""

import re
from pathlib import Path
from typing import Literal

from lavit_core.errors import InputError

NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
Kind = Literal["dataset", "model"]


def is_name(path: Path) -> bool:
    """Return whether a path that does not exist could be meant as a name on the hub: owner/name[@revision]."""
    return not path.exists() and NAME.fullmatch(path.as_posix()) is not None


def download(name: str, patterns: list[str], *, kind: Kind = "dataset", said: str = "--data") -> Path:
    """Return the folder of a repository's files that fit `patterns`, downloaded into the hub's own cache.

    Only call it when the network is allowed. `said` is the option that the name was given with. Raises InputError when
    nothing comes.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError:
        raise InputError(f"{said} {name}: downloading needs huggingface_hub; pip install huggingface_hub") from None
    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, repo_type=kind, revision=revision or None, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{said} {name}: not downloaded ({reason}); gated repositories need `hf auth login`") from None

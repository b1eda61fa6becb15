"""Data sets by name from the Hugging Face hub, when the user allows the network."""

import re
from pathlib import Path

from lavit_core.errors import InputError

_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def is_name(data: Path) -> bool:
    """Return whether a path that does not exist could be meant as a name on the hub: owner/name[@revision]."""
    return not data.exists() and _NAME.fullmatch(data.as_posix()) is not None


def download(name: str, patterns: list[str], *, allow_network: bool) -> Path:
    """Return the folder of a data set's parquet files, downloaded into the hub's own cache.

    Raises InputError unless the network is allowed, and when nothing comes.
    """
    if not allow_network:
        raise InputError(
            f"--data {name}: no such folder; if a data set on the Hugging Face hub is meant, give --allow-network too"
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError:
        raise InputError(
            f"--data {name}: downloading needs huggingface_hub; run `pip install 'lavit-evaluation[tables]'`"
        ) from None
    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(repository, repo_type="dataset", revision=revision or None, allow_patterns=patterns)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--data {name}: not downloaded ({reason}); gated data sets need `hf auth login`") from None

"""Networks that transformers builds from a local folder: with every weight of theirs, or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from safetensors import SafetensorError


def load_pretrained(kind: Any, folder: Path, *, what: str, option: str | None = None, **arguments: Any) -> Any:
    """Return `kind.from_pretrained(folder)` of a transformers class; nothing is downloaded, no code in it is run.

    Raises InputError, naming it as `what` and the option that gave it, when it can't be loaded or lacks weights:
    transformers would draw those at random and go on.
    """
    place = str(folder) if option is None else f"{option} {folder}"
    try:
        with quiet_transformers():
            network, report = kind.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, output_loading_info=True, **arguments
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{place}: not a loadable {what} ({' '.join(str(error).split())[:300]})") from None
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"{place}: {len(missing)} weights of {what} are missing (first: {missing[0]}), expected all; "
            "copy the folder again, or export this model alone with save_pretrained"
        )
    return network


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' own progress bars out of ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()

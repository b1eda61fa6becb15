"""Networks that transformers builds from a local folder: with every weight of theirs, or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError

from lavit_trainkit.external_weights import folder_shapes, read_tensors, weight_files
from lavit_trainkit.weight_checks import require_finite, require_size

WEIGHT_STEMS = ("model", "pytorch_model")
"""Beginnings of weight files' names in a transformers directory."""


def load_pretrained(kind: Any, folder: Path, *, what: str, option: str | None = None, **arguments: Any) -> Any:
    """Return `kind.from_pretrained(folder)` of a transformers class; nothing is downloaded, no code in it is run.

    Raises InputError, naming it as `what` and the option that gave it, when it can't be loaded, holds NaN, or lacks
    weights: transformers would draw those at random and go on.
    """
    place = str(folder) if option is None else f"{option} {folder}"
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(f"{place}: not a loadable {what} (no config.json here)")
    try:
        files = weight_files(folder, WEIGHT_STEMS)
        require_size(config, folder_shapes(files), lambda: _planned(kind, folder))
    except InputError as error:
        raise InputError(str(error) if option is None else f"{option} {error}") from None
    try:
        with quiet_transformers():
            network, report = kind.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, output_loading_info=True, **arguments
            )
    except MemoryError:
        raise
    # A configuration fails in any way that a constructor does.
    except Exception as error:  # noqa: BLE001
        raise InputError(f"{place}: not a loadable {what} ({' '.join(str(error).split())[:300]})") from None
    try:
        require_finite(place, network.named_parameters())
    except InputError:
        for file in files:  # under the name of the file and of its tensor, where it is not of the network's making
            require_finite(file, read_tensors(file).items())
        raise
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"{place}: {len(missing)} weights of {what} are missing (first: {missing[0]}), expected all; "
            "copy the folder again, or export this model alone with save_pretrained"
        )
    return network


def _planned(kind: Any, folder: Path) -> Any:
    """Return the network of a folder's configuration; called on torch's meta device."""
    from transformers import AutoConfig

    if hasattr(kind, "from_config"):  # an Auto class
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return kind.from_config(config, trust_remote_code=False)
    return kind(kind.config_class.from_pretrained(folder, local_files_only=True))


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' own progress bars out of ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()

"""Distributions that may be missing: importing one that is not installed becomes the line that installs it."""

import contextlib
from collections.abc import Iterator

from lavit_core.errors import InputError

INSTALL_ALL = "pip install -r stages/workspace.txt"
"""The command that installs every distribution, typed in the root of a checkout."""


@contextlib.contextmanager
def require_stage(user: str) -> Iterator[None]:
    """Turn the failed import of one of this project's distributions inside the block into one line.

    `user` is who needs it, say `lavit generate`. Raises InputError that names the missing distribution and the command
    that installs it; other missing modules are raised as they are.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module != "lavit" and not module.startswith("lavit_"):
            raise
        distribution = "lavit-model" if module == "lavit" else module.replace("_", "-")
        raise InputError(f"{user} needs {distribution}, which is not installed; run `{INSTALL_ALL}`") from None

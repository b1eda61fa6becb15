"""The distributions of this project: their names, what is installed, and the command that installs one."""

import contextlib
import importlib.metadata
from collections.abc import Iterator

from lavit_core.errors import InputError

STAGES = {
    "core": (),
    "shapes": ("core",),
    "trainkit": ("core",),
    "tokenizer": ("trainkit",),
    "pretrain": ("tokenizer",),
    "detokenizer": ("tokenizer",),
    "model": ("tokenizer",),
    "scoring": (),
    "evaluation": ("shapes", "scoring"),
    "serve": ("pretrain", "detokenizer", "model"),
}
"""Folders under stages/ with those they need; a test compares them with workspace.txt and each pyproject.toml."""

LIBRARIES = ("torch", "transformers", "diffusers", "accelerate", "safetensors", "tokenizers", "numpy", "pillow")
"""Libraries whose behaviour reaches the results."""

HOST = "lavit"
MODULES = {"lavit": "lavit-model", "lavit_cli": HOST}
"""Import names that are not the distribution's name with underscores."""


def names() -> list[str]:
    """Return the names of all distributions, the host last."""
    return [*(f"lavit-{stage}" for stage in STAGES), HOST]


def module_name(distribution: str) -> str:
    """Return the import name of a distribution."""
    named = {other: module for module, other in MODULES.items()}
    return named.get(distribution, distribution.replace("-", "_"))


def version(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed() -> dict[str, str]:
    """Return the versions of the distributions that are installed, by name."""
    return {name: found for name in names() if (found := version(name))}


def install_command(distribution: str) -> str:
    """Return what to type in a checkout to install a distribution with what it needs."""
    stage = distribution.removeprefix("lavit-")
    if stage not in STAGES:
        return "pip install ." if distribution == HOST else f"pip install {distribution}"
    return " ".join(["pip install", *(f"./stages/{name}" for name in _with_needs(stage))])


def _with_needs(stage: str) -> list[str]:
    found = dict.fromkeys(name for need in STAGES[stage] for name in _with_needs(need))
    return [*found, stage]


@contextlib.contextmanager
def require_stages(caller: str) -> Iterator[None]:
    """Turn the failed import of a stage into one line with the command that installs it. Raises InputError."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        distribution = MODULES.get(module, module.replace("_", "-"))
        if distribution not in names():
            raise
        install = install_command(distribution)
        raise InputError(f"{caller} needs {distribution}, which is not installed; run `{install}`") from None

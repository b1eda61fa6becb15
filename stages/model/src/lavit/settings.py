"""Checks of a caller's settings: presets, seeds, counts. Never imports torch."""

import operator
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from lavit_core.config import load_preset
from lavit_core.errors import UsageError


def check_preset(preset: str) -> None:
    """Raise UsageError if neither sampling nor drawing has this preset; stages that are not installed are left out."""
    refused = []
    for package, command in (("lavit_pretrain", "sample"), ("lavit_detokenizer", "detokenize")):
        try:
            load_preset(package, command, preset)
        except ModuleNotFoundError:
            continue
        except UsageError as error:
            refused.append(error)
        else:
            return
    if refused:
        raise refused[0]


def seed_list(seeds: int | Sequence[int] | None, count: int) -> list[int]:
    """Return one seed an image: those given, or `seeds`, `seeds + 1`, ... from a number (None: from 0).

    Any integer is a seed, negative and large ones too. Raises UsageError for something else, or another number of seeds
    than of images.
    """
    given: Any = 0 if seeds is None else seeds
    try:
        first = operator.index(given)
    except TypeError:
        listed = _integers(given)
    else:
        return list(range(first, first + count))
    if len(listed) != count:
        raise UsageError(f"seeds: found {len(listed)}, expected {count}, one an image")
    return listed


def _integers(given: Any) -> list[int]:
    try:
        return [operator.index(seed) for seed in given]
    except TypeError:
        raise UsageError(f"seeds: found {given!r}, expected one integer, or one an image") from None


def check_positive(**numbers: Any) -> None:
    """Raise UsageError for a number that is not an integer of at least 1."""
    for name, value in numbers.items():
        if not isinstance(value, Integral) or value < 1:
            raise UsageError(f"{name}: found {value!r}, expected an integer of at least 1")

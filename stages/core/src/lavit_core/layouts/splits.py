"""Splits of a list that holds several, say train and test of one file."""

from collections.abc import Iterable
from pathlib import Path

from lavit_core.errors import InputError


def chosen_splits(found: Iterable[str], wanted: str | None, file: Path) -> set[str]:
    """Return the splits to read. Raises InputError if there are several and none is named, or for an unknown name."""
    names = sorted(set(found))
    if wanted is None:
        if len(names) > 1:
            held = ", ".join(names)
            raise InputError(f"{file}: holds the splits {held}; give --split NAME, several with commas, or all")
        return set(names)
    if wanted == "all":
        return set(names)
    chosen = {name.strip() for name in wanted.split(",")}
    if unknown := sorted(chosen - set(names)):
        raise InputError(f"{file}: no split {unknown[0]!r}, found {', '.join(names) or 'none'}; give --split NAME")
    return chosen

"""Token directories named on a command line: directories, and lists of them with weights (`lavit_core.source_list`)."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lavit_core.errors import InputError
from lavit_core.files import file_sha256
from lavit_core.records import Source
from lavit_core.source_list import is_source_list, read_source_list
from lavit_core.token_format import MANIFEST_FILE
from lavit_core.token_reader import TokenReader, open_tokens


def token_folders(tokens: Sequence[Path]) -> list[tuple[Path, str]]:
    """Return token directories with what their keys begin with; one of weight 2 stands there twice.

    Raises InputError for a list that can't be read or has columns.
    """
    found = []
    for path in tokens:
        if not is_source_list(path):
            found.append((path, ""))
            continue
        for one in read_source_list(Source(path)):
            if one.source != Source(one.source.path):
                raise InputError(f"{path}: {one.name} has columns or a split, expected the path of a token directory")
            found += [(one.source.path, f"{one.name}/")] * one.weight
    return found


def open_token_sources(tokens: Sequence[Path], *, check_digests: bool = True) -> TokenReader:
    """Open what `token_folders` returns as one sequence of samples. Raises as it does, and as `open_tokens` does."""
    folders, prefixes = zip(*token_folders(tokens), strict=True)
    return open_tokens(*folders, prefixes=prefixes, check_digests=check_digests)


def token_digests(reader: TokenReader) -> dict[str, str]:
    """Return the digests of a run's token directories: their manifests in order, and what a list adds to their keys."""
    found = {f"tokens {place}": file_sha256(folder / MANIFEST_FILE) for place, folder in enumerate(reader.folders)}
    if any(reader.prefixes):
        found["token sources"] = hashlib.sha256(json.dumps(reader.prefixes).encode()).hexdigest()
    return found


def places_of_keys(reader: TokenReader) -> dict[str, list[int]]:
    """Return the places of each key; those of a directory that stands there several times have several.

    Raises what `check_keys_apart` raises.
    """
    check_keys_apart(reader)
    places: dict[str, list[int]] = {}
    for place, key in enumerate(reader.keys(np.arange(len(reader)))):
        places.setdefault(key, []).append(place)
    return places


def check_keys_apart(reader: TokenReader) -> None:
    """Raise InputError if different directories have equal keys: what is joined by key would go to the wrong image."""
    owners: dict[str, Path] = {}
    start = 0
    for folder, manifest in zip(reader.folders, reader.manifests, strict=True):
        indices = np.arange(start, start + manifest.num_samples)
        start += manifest.num_samples
        for key in reader.keys(indices) if len(set(reader.folders)) > 1 else ():
            if (other := owners.setdefault(key, folder)) != folder:
                raise InputError(
                    f"{folder}: holds {key!r} as {other} does, and questions and images are joined by key; list both "
                    "in a YAML file, whose names keep keys apart (docs/data.md)"
                )

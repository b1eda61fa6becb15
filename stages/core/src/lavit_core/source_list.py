"""Lists of sources: several data sets, or token directories, that are read as one (docs/adr/0011).

sources:
  - data: photos                        relative to the file
    weight: 2
  - data: tars/{00000..00041}.tar
    name: web
    caption_column: text
"""

import dataclasses
import os
import posixpath
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from lavit_core.config import Config, read_yaml, resolve
from lavit_core.errors import InputError, UsageError
from lavit_core.json_lines import parse_json
from lavit_core.layouts.hub import is_hub
from lavit_core.layouts.place import short
from lavit_core.records import Source

MAX_WEIGHT = 100


class ListedSource(Config):
    """One source of a list."""

    data: str = Field(min_length=1)
    """Path of a data set, relative to the list; in a list of tokens, of a token directory."""
    name: str | None = None
    """What its keys begin with, as `name/key`; None: the last part of its path."""
    weight: int = Field(default=1, ge=1, le=MAX_WEIGHT, strict=True)
    """How often a training shows each of its images where an image of weight 1 is shown once."""
    image_column: str | None = None
    """As --image-column."""
    caption_column: str | None = None
    """As --caption-column."""
    split: str | None = None
    """As --split."""


class SourceList(Config):
    """Contents of a list of sources."""

    sources: tuple[ListedSource, ...] = Field(min_length=1)
    """Data sets in any order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedSource:
    """A source with what its keys begin with, and how often a training shows it."""

    name: str
    source: Source
    weight: int


def is_source_list(path: Path) -> bool:
    """Return whether a path is named as a list of sources is: `*.yaml`, `*.yml`, `sources.json` or `*.sources.json`."""
    name = path.name.lower()
    if os.path.isdir(path):
        return False
    return name.endswith((".yaml", ".yml", ".sources.json")) or name == "sources.json"


def read_source_list(listed: Source) -> list[NamedSource]:
    """Return the sources of a list, sorted by name; columns and splits that it does not give are those of `listed`.

    Raises InputError for a file that can't be read, unknown keys, equal names, and a list in a list.
    """
    file = listed.path
    found: dict[str, NamedSource] = {}
    for one in _read(file).sources:
        if not _can_be_path(one.data):
            raise InputError(f"{file}: {one.data!r} can't be a path, expected one without half or null characters")
        path = Path(one.data) if is_hub(Path(one.data)) else file.parent / one.data
        name = _default_name(path) if one.name is None else one.name
        if is_source_list(path):
            raise InputError(f"{file}: {one.data} is a list too, expected a data set; write its sources here")
        if not name or name.startswith(".") or posixpath.basename(name) != name or not name.isprintable():
            raise InputError(f"{file}: name {name!r} of {one.data}, expected one without slashes, say {'photos'!r}")
        if name in found:
            twice = f"{found[name].source.path} and {path} are both called {name!r}"
            raise InputError(f"{file}: {twice}, and keys begin with the name; give one of them another `name:`")
        columns = {
            "image_column": one.image_column or listed.image_column,
            "caption_column": one.caption_column or listed.caption_column,
            "split": one.split or listed.split,
        }
        source = Source(path, allow_network=listed.allow_network, **columns)
        found[name] = NamedSource(name=name, source=source, weight=one.weight)
    # In the order of keys: those of one source stand together.
    return sorted(found.values(), key=lambda one: f"{one.name}/")


def _can_be_path(name: str) -> bool:
    try:
        os.lstat(name)
    except OSError:
        return True
    except ValueError:
        return False
    return True


def _default_name(path: Path) -> str:
    if is_hub(path):
        return path.name.partition("@")[0]
    if "{" in path.name:
        return path.parent.resolve().name
    return path.resolve().name if os.path.isdir(path) else path.name.partition(".")[0]


def _read(file: Path) -> SourceList:
    try:
        values: Any = (
            read_yaml(file, str(file)) if file.suffix.lower() != ".json" else parse_json(file.read_text("utf-8-sig"))
        )
        if not isinstance(values, dict) or "sources" not in values:
            raise InputError(f"{file}: no `sources:`, expected a list of data sets as in docs/data.md")
        listed = values["sources"]
        if not isinstance(listed, list) or not listed:
            raise InputError(f"{file}: sources is {short(listed)}, expected a list, say [{{data: photos, weight: 2}}]")
        for number, one in enumerate(listed):
            if not isinstance(one, dict):
                raise InputError(f"{file}: sources.{number} is {short(one)}, expected {{data: PATH}}")
        return resolve(SourceList, preset=values)
    except UsageError as error:
        raise InputError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from None
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror or error})") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{file}: not valid JSON ({' '.join(str(error).split())})") from None

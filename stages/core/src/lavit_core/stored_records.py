"""Records as rows of JSON values: in a plan on disk, and in the list of an opened data set."""

import json
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

from lavit_core.image_places import fields_of
from lavit_core.layouts.hub import HubImage
from lavit_core.layouts.parquet import ParquetImage
from lavit_core.layouts.saved_dataset import SavedImage
from lavit_core.layouts.tars import TarImage
from lavit_core.line_store import LineStore
from lavit_core.records import Record

KINDS: dict[str, Any] = {kind.__name__: kind for kind in (TarImage, ParquetImage, SavedImage, HubImage)}
"""Images inside other files."""


def record_of(key: str, captions: list[str], place: list[Any], root: Path) -> Record:
    """Return the record of a row whose image lies at a place of `place_of`."""
    if not place:
        return Record(key, root / key, tuple(captions))
    if isinstance(place[0], str):
        return Record(key, Path(place[0]), tuple(captions))
    name, *values = place[0]
    fields = zip(fields_of(KINDS[name]), values, strict=True)
    image = KINDS[name](*(Path(value) if is_path else value for (_, is_path), value in fields))
    return Record(key, image, tuple(captions))


class _Records(Sequence[Record]):
    """Records that are made when they are asked for."""

    @abstractmethod
    def _record(self, index: int) -> Record:
        """Return one record; `index` is from 0 on, and there."""

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self._record(place) for place in range(len(self))[index]]
        return self._record(range(len(self))[index])

    def __iter__(self) -> Iterator[Record]:
        return map(self._record, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class StoredRecords(_Records):
    """Records of lines `[key, bytes, captions, where the image lies if not at its key]`."""

    def __init__(self, root: Path, lines: LineStore) -> None:
        self._root, self._lines = root, lines

    def __len__(self) -> int:
        return len(self._lines)

    def _record(self, index: int) -> Record:
        key, _, captions, *place = json.loads(self._lines[index])
        return record_of(key, captions, place, self._root)


class JoinedRecords(_Records):
    """Records of several sources, one after another; keys begin with the name of the source."""

    def __init__(self, sources: Sequence[tuple[str, int, Sequence[Record]]]) -> None:
        self._sources = sources
        self._starts = [0, *accumulate(len(records) for _, _, records in sources)]

    def __len__(self) -> int:
        return self._starts[-1]

    def _record(self, index: int) -> Record:
        number = bisect_right(self._starts, index) - 1
        name, weight, records = self._sources[number]
        record = records[index - self._starts[number]]
        return Record(f"{name}/{record.key}", record.image, record.captions, weight)

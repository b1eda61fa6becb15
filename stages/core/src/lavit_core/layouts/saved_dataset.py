"""Folders that `datasets` saved with save_to_disk: Arrow files and state.json, or a dataset_dict.json of splits."""

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.layouts.embedded import (
    Row,
    add_embedded,
    cell_bytes,
    columns_of,
    joined_columns,
    paths_and_sizes,
    text_columns,
)
from lavit_core.layouts.place import Place
from lavit_core.layouts.splits import chosen_splits
from lavit_core.records import Contents, Source

INFO, SPLITS, STATE = "dataset_info.json", "dataset_dict.json", "state.json"


@dataclasses.dataclass(frozen=True, slots=True)
class SavedImage:
    """An image in a cell of a saved data set."""

    folder: Path
    column: str
    row: int

    def __str__(self) -> str:
        return f"{self.folder}: row {self.row}"

    def read_bytes(self) -> bytes:
        """Return the encoded image. Raises OSError."""
        cell = _dataset(self.folder).with_format("arrow")[self.row : self.row + 1].column(self.column)[0].as_py()
        return cell_bytes(cell)


def read_saved_dataset(place: Place) -> Contents | None:
    """Return the images of a folder that save_to_disk wrote; None for any other folder.

    Raises InputError if a split must be chosen, or if `datasets` is not installed.
    """
    if place.file is not None or not {SPLITS, STATE} & set(place.names):
        return None
    if SPLITS in place.names:
        found = [name for name in place.names if (place.root / name / STATE).is_file()]
        splits = chosen_splits(found, place.source.split, place.root)
        folders = [place.root / name for name in sorted(splits)]
    else:
        folders = [place.root]
    contents = Contents(layout="saved dataset", root=place.root, files=folders, named_by="image")
    contents.heeded |= {"split"} if SPLITS in place.names else set()
    columns = joined_columns([(one, columns_of(_dataset(one).data.schema, place.source, one)[0]) for one in folders])
    if not any(len(_dataset(folder)) for folder in folders):
        raise InputError(f"{place.root}: the data set has no rows")
    add_embedded(contents, place.root / INFO, _rows(folders, place.source), columns)
    return contents


def _rows(folders: list[Path], source: Source) -> Iterator[Row]:
    for folder in folders:
        dataset = _dataset(folder)
        columns, embedded = columns_of(dataset.data.schema, source, folder)
        image, texts = str(columns.image), text_columns(columns)
        prefix = f"{folder.name}/" if folders[1:] else ""
        arrow = dataset.with_format("arrow")
        for start in range(0, len(dataset), 1000):
            batch = arrow[start : start + 1000]
            paths, sizes = paths_and_sizes(batch.column(image), embedded)
            # Without columns, Arrow has no rows.
            own = batch.select(texts).to_pylist() if texts else [{} for _ in paths]
            for row, (path, size, text) in enumerate(zip(paths, sizes, own, strict=True), start):
                stored = None if size is None else SavedImage(folder, image, row)
                yield Row(texts=text, path=path, image=stored, size=size or 0, number=f"{prefix}{row:08d}")


@lru_cache(maxsize=16)
def _dataset(folder: Path) -> Any:
    """Return the data set of a folder, its Arrow files mapped into memory."""
    try:
        import datasets
    except ModuleNotFoundError:
        raise InputError(
            f"{folder}: a saved data set needs the `datasets` library, which is not installed; "
            "pip install 'lavit-core[datasets]'"
        ) from None
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # noqa: BLE001 - it raises many kinds for damaged files
        raise InputError(f"{folder}: datasets can't read it ({' '.join(str(error).split())})") from None

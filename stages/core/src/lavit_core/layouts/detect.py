"""The layouts, in the order in which they are tried: the first that recognises the folder or file reads it."""

from collections.abc import Callable

from lavit_core.errors import InputError
from lavit_core.layouts.coco import read_coco
from lavit_core.layouts.folder import nothing_here, read_folder, refuse_splits
from lavit_core.layouts.hub import is_hub, read_hub
from lavit_core.layouts.karpathy import read_karpathy
from lavit_core.layouts.llava import read_llava
from lavit_core.layouts.own import read_own
from lavit_core.layouts.parquet import read_parquet
from lavit_core.layouts.place import Place
from lavit_core.layouts.saved_dataset import read_saved_dataset
from lavit_core.layouts.table import read_metadata, read_table
from lavit_core.layouts.tars import read_tars
from lavit_core.layouts.vqa import read_vqa
from lavit_core.records import Contents, Source

LAYOUTS: tuple[Callable[[Place], Contents | None], ...] = (
    read_own,
    read_tars,
    read_saved_dataset,
    read_parquet,
    read_metadata,
    read_coco,
    read_karpathy,
    read_llava,
    read_vqa,
    read_table,
)


def read_contents(source: Source) -> Contents:
    """Return what a folder or file holds. Raises InputError if it is in no layout that is known."""
    contents = read_hub(source) if is_hub(source.path) else _read_place(Place(source))
    for option, value in source.options:
        everything = (option, value) in (("--caption-column", "none"), ("--split", "all"))
        if not everything and option.removeprefix("--").replace("-", "_") not in contents.heeded:
            contents.notes.append(f"{option} {value} has no effect on the layout {contents.layout}")
    return contents


def _read_place(place: Place) -> Contents:
    for read in LAYOUTS:
        if (contents := read(place)) is not None:
            return contents
    if place.file is not None:
        raise InputError(f"{place.file}: found a file, expected a folder of images, or a list as in docs/data.md")
    refuse_splits(place)
    contents = read_folder(place)
    if contents is None:
        raise nothing_here(place.source.path)
    return contents

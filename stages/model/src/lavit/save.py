"""Writing a model directory to another place."""

from pathlib import Path

from lavit_core.errors import InputError
from lavit_core.files import atomic_folder, link_or_copy
from lavit_core.modeldir import MADE_BY, read_metadata


def save_model(source: Path, target: Path, *, replace: bool = False) -> None:
    """Write the parts of a model directory and its lavit.json to `target`, by hard links where the disk allows.

    The folder is there whole or not at all. Where another model is at `target`, `replace` puts this one in its place;
    without it, raises InputError if there is something already. It also raises InputError for a place in one of the
    model's own parts, or one that can't be written.
    """
    for part in MADE_BY:
        if target.resolve().is_relative_to((source / part).resolve()):
            raise InputError(f"{target}: in {part}/ of the model itself, expected a place outside; give another name")
    if replace and target.exists() and read_metadata(target) == read_metadata(source):
        return
    if not replace and target.exists() and (not target.is_dir() or any(target.iterdir())):
        found = "a folder with files in it" if target.is_dir() else "a file"
        raise InputError(f"{target}: {found}, expected no such folder; give another name")
    with atomic_folder(target) as scratch:
        for part in (part for part in MADE_BY if (source / part).is_dir()):
            link_or_copy(source / part, scratch / part)
        if (source / "lavit.json").exists():
            (scratch / "lavit.json").write_bytes((source / "lavit.json").read_bytes())

"""COCO captions: {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "a"}]}."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.layouts.place import Place, bad_line, key_of, locate, one_of, say_prefix, short
from lavit_core.records import Contents, Problem


def read_coco(place: Place) -> Contents | None:
    """Return the only file of COCO captions, or None without one."""
    files = [file for file, value in place.json_files.items() if _is_coco(value)]
    if not files:
        return None
    with_captions = [file for file in files if _has_captions(place.json_files[file])]
    if not with_captions:
        if place.source.caption_column == "none":
            return None
        raise InputError(f"{files[0]}: its annotations have no caption, expected COCO captions")
    file = one_of(with_captions, "files of COCO captions", place.root)
    value = place.json_files[file]
    names, problems = _names_by_id(file, value["images"])
    root, prefix = locate(place, list(names.values()))
    contents = Contents(layout="coco", root=root, files=[file], notes=say_prefix(prefix), problems=problems)
    keys: dict[Any, str] = {}
    for name, file_name in names.items():
        key, wrong = key_of(file_name, root, prefix)
        if wrong:
            contents.problems.append(bad_line(file, f"image {short(name)}", f"file_name {wrong}"))
        else:
            keys[name] = key
    captions: dict[str, list[str]] = {key: [] for key in keys.values()}
    for number, row in enumerate(value["annotations"]):
        name, caption = (row.get("image_id"), row.get("caption")) if isinstance(row, dict) else (None, row)
        if not isinstance(caption, str):
            message = f"caption is {short(caption)}, expected a string"
        elif not _is_id(name) or name not in names:
            message = f"image_id {short(name)} is no image of this file"
        else:
            if name in keys:
                captions[keys[name]].append(caption)
            continue
        contents.problems.append(bad_line(file, f"annotation {number}", message))
    contents.captions = {key: tuple(texts) for key, texts in captions.items()}
    return contents


def _names_by_id(file: Path, images: list[Any]) -> tuple[dict[Any, Any], list[Problem]]:
    """Return the file names of images by their ids, and what is wrong with the list."""
    names: dict[Any, Any] = {}
    problems = []
    for number, row in enumerate(images):
        if not isinstance(row, dict):
            problems.append(bad_line(file, f"image {number}", f"found {short(row)}, expected an object"))
            continue
        name, file_name = row.get("id"), row.get("file_name")
        if not _is_id(name):
            message = f"id is {short(name)}, expected a number or a string"
            problems.append(bad_line(file, f"image {short(file_name)}", message))
        elif names.setdefault(name, file_name) != file_name:
            both = f"{short(names[name])} and {short(file_name)}"
            problems.append(Problem("duplicate", f"{file}: image id {short(name)} is both {both}"))
    return names, problems


def _is_coco(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("images"), list)
        and isinstance(value.get("annotations"), list)
        and all("file_name" in row for row in _rows(value["images"][:1]))
    )


def _has_captions(value: Any) -> bool:
    return any("caption" in row for row in _rows(value["annotations"][:1]))


def _is_id(value: Any) -> bool:
    """Return whether a value can name an image; lists and objects can't be looked up."""
    return isinstance(value, int | float | str)


def _rows(values: list[Any]) -> Iterator[dict[str, Any]]:
    return (row for row in values if isinstance(row, dict))

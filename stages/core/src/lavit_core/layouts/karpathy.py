"""Karpathy's splits.

{"images": [{"filepath": "val2014", "filename": "1.jpg", "split": "train", "sentences": [{"raw": "a dog"}]}]}
"""

from typing import Any

from lavit_core.layouts.place import Place, bad_line, key_of, locate, one_of, say_prefix, short
from lavit_core.layouts.splits import chosen_splits
from lavit_core.layouts.table import caption_texts
from lavit_core.records import Contents


def read_karpathy(place: Place) -> Contents | None:
    """Return the only file of this layout, or None without one. Raises InputError if its split must be chosen."""
    files = [file for file, value in place.json_files.items() if _is_karpathy(value)]
    if not files:
        return None
    file = one_of(files, "files in Karpathy's layout", place.root)
    rows = [row for row in place.json_files[file]["images"] if isinstance(row, dict)]
    splits = chosen_splits((str(row.get("split", "")) for row in rows), place.source.split, file)
    rows = [row for row in rows if str(row.get("split", "")) in splits]
    names = [_name(row) for row in rows]
    root, prefix = locate(place, names)
    contents = Contents(layout="karpathy", root=root, files=[file], notes=say_prefix(prefix), named_by="filename")
    contents.heeded.add("split")
    for row, name in zip(rows, names, strict=True):
        key, wrong = key_of(name, root, prefix)
        texts = caption_texts(row["sentences"]) if "sentences" in row else None
        where = f"image {short(row.get('imgid', row.get('filename')))}"
        if wrong:
            contents.problems.append(bad_line(file, where, f"filename {wrong}"))
        elif texts is None:
            contents.problems.append(bad_line(file, where, f"sentences is {short(row.get('sentences'))}, not raw"))
        else:
            contents.captions[key] = (*contents.captions.get(key, ()), *texts)
    return contents


def _is_karpathy(value: Any) -> bool:
    rows = value.get("images") if isinstance(value, dict) else None
    first = rows[0] if isinstance(rows, list) and rows else None
    return isinstance(first, dict) and {"filename", "sentences"} <= set(first)


def _name(row: dict[str, Any]) -> Any:
    folder, name = row.get("filepath"), row.get("filename")
    return f"{folder}/{name}" if isinstance(folder, str) and folder and isinstance(name, str) else name

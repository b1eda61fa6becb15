"""Reference captions in the layouts they are published in: COCO, Karpathy, LAVIS, NoCaps, and our captions.jsonl."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lavit_scoring.errors import InputError, UsageError
from lavit_scoring.files import read_json
from lavit_scoring.results import read_rows

DEFAULT_SPLIT = "test"


@dataclass(frozen=True, kw_only=True)
class References:
    """Reference captions of the pictures of one split, under every id a result file may use."""

    by_kind: dict[str, dict[str, list[str]]]
    """Kind of id (cocoid, imgid, image, stem) -> id as text -> captions, in file order; the usual kind first."""
    files: dict[str, str]
    """Usual id -> the picture's path as the file gives it."""
    domains: dict[str, str] = field(default_factory=dict)
    """Usual id -> domain (NoCaps)."""

    def keyed_like(self, ids: Collection[str]) -> dict[str, list[str]]:
        """Return the captions under the kind of id that knows all of `ids`; under the usual one when none does."""
        for truths in self.by_kind.values():
            if all(name in truths for name in ids):
                return truths
        return next(iter(self.by_kind.values()))


def read_references(file: Path, split: str | None = None) -> References:
    """Return a file's reference captions; `split` picks from a Karpathy file (test when not said).

    Raises InputError when the file is none of the known layouts, or a picture has no caption; UsageError for a split
    of a file that has none.
    """
    rows: list[dict[str, Any]]
    is_lines = file.suffix == ".jsonl"
    content = None if is_lines else read_json(file)
    if split is not None and not (isinstance(content, dict) and "annotations" not in content):
        raise UsageError(
            f"--split {split}: {file} holds one split, and only Karpathy's files hold several; leave it out"
        )
    if is_lines:
        rows = [_row(file, one, {"file_name": one.get("file_name")}, one.get("captions")) for one in read_rows(file)]
    elif isinstance(content, list):
        rows = _lavis(file, content)
    elif isinstance(content, dict) and isinstance(content.get("annotations"), list):
        rows = _coco(file, content)
    elif isinstance(content, dict) and isinstance(content.get("images"), list):
        rows = _karpathy(file, content, split or DEFAULT_SPLIT)
    else:
        raise InputError(
            f"{file}: not a caption file: expected COCO's {{images, annotations}}, Karpathy's {{images}}, "
            "a list of {image, caption} or captions.jsonl"
        )
    if not rows:
        raise InputError(f"{file}: no picture with captions")
    kinds = [kind for kind in rows[0]["ids"] if all(row["ids"].get(kind) is not None for row in rows)]
    by_kind = {kind: {str(row["ids"][kind]): row["captions"] for row in rows} for kind in kinds}
    whole = {kind: truths for kind, truths in by_kind.items() if len(truths) == len(rows)}
    if kinds[0] not in whole:
        raise InputError(f"{file}: a picture's {kinds[0]} stands there twice")
    usual = kinds[0]
    return References(
        by_kind=whole,
        files={str(row["ids"][usual]): str(row["path"]) for row in rows},
        domains={str(row["ids"][usual]): row["domain"] for row in rows if row.get("domain")},
    )


def _row(file: Path, source: Any, ids: dict[str, Any], captions: Any, path: Any = None) -> dict[str, Any]:
    texts = [captions] if isinstance(captions, str) else captions
    name = next((value for value in ids.values() if value is not None), None)
    if name is None:
        raise InputError(f"{file}: found {str(source)[:60]}, expected a picture with an id")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{file}: picture {name} has no captions")
    if not any(text.strip() for text in texts):
        raise InputError(f"{file}: all captions of picture {name} are empty, expected at least one with words")
    return {"ids": ids, "captions": texts, "path": path if path is not None else name}


def _coco(file: Path, content: dict[str, Any]) -> list[dict[str, Any]]:
    captions: dict[Any, list[str]] = {}
    for annotation in content["annotations"]:
        try:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
        except (KeyError, TypeError):
            raise InputError(f"{file}: found {str(annotation)[:60]}, expected image_id and caption") from None
    pictures = {one["id"]: one for one in content.get("images") or () if isinstance(one, dict) and "id" in one}
    order = list(pictures) or list(captions)
    if unknown := [name for name in captions if pictures and name not in pictures]:
        raise InputError(f"{file}: annotations name picture {unknown[0]}, which its images do not hold")
    rows = []
    for name in order:
        about = pictures.get(name, {})
        path = about.get("file_name")
        row = _row(file, name, {"id": name, **_of_path(path)}, captions.get(name), path)
        rows.append(row | {"domain": about.get("domain")})
    return rows


def _karpathy(file: Path, content: dict[str, Any], split: str) -> list[dict[str, Any]]:
    splits = sorted({str(one.get("split")) for one in content["images"] if isinstance(one, dict)})
    if split not in splits:
        raise InputError(f"{file}: no split {split!r}, expected one of {', '.join(splits)}")
    rows = []
    for one in content["images"]:
        if one.get("split") == split:
            raw = [sentence.get("raw") for sentence in one.get("sentences") or ()]
            path = "/".join(filter(None, (one.get("filepath"), one.get("filename"))))
            # Flickr30k has no ids of its own: papers use the number in the file's name, the file counts pictures.
            ids = {"cocoid": one.get("cocoid"), **_of_path(one.get("filename")), "imgid": one.get("imgid")}
            rows.append(_row(file, one, {kind: name for kind, name in ids.items() if name is not None}, raw, path))
    return rows


def _lavis(file: Path, content: list[Any]) -> list[dict[str, Any]]:
    rows = []
    for one in content:
        if not isinstance(one, dict):
            raise InputError(f"{file}: found {str(one)[:60]}, expected {{image, caption}}")
        path = one.get("image")
        ids = {"img_id": one.get("img_id"), **_of_path(path)}
        # COCO's number is the end of its file name: COCO_val2014_000000391895.jpg.
        stem = ids.get("stem") or ""
        number = stem.rpartition("_")[2]
        if number.isdecimal():
            ids = {"cocoid": int(number), **ids}
        rows.append(_row(file, one, {kind: name for kind, name in ids.items() if name is not None},
                         one.get("caption"), path))  # fmt: skip
    return rows


def _of_path(path: Any) -> dict[str, str]:
    """Return the ids that a path gives: the file's name, and that without its suffix."""
    if not isinstance(path, str) or not path:
        return {}
    name = path.rpartition("/")[2]
    return {"stem": name.rpartition(".")[0] or name, "file": name, "path": path}

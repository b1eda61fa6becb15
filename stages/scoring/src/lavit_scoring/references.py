"""Reference captions in the layouts they are published in: COCO, Karpathy, LAVIS, NoCaps, and our captions.jsonl."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lavit_scoring.errors import InputError, UsageError, shorten
from lavit_scoring.files import read_json
from lavit_scoring.results import read_rows

DEFAULT_SPLIT = "test"


@dataclass(frozen=True, kw_only=True)
class References:
    """Reference captions of the images of one split, under every id a result file may use."""

    by_kind: dict[str, dict[str, list[str]]]
    """Kind of id (cocoid, imgid, image, stem) -> id as text -> captions, in file order; the usual kind first."""
    files: dict[str, str]
    """Usual id -> the image's path as the file gives it."""
    domains: dict[str, str] = field(default_factory=dict)
    """Usual id -> domain (NoCaps)."""

    def keyed_like(self, ids: Collection[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Return the captions under the kind of id that knows all of `ids`, under the usual one if none does; and the
        usual id of each of these ids."""
        usual = next(iter(self.by_kind.values()))
        known = (captions for captions in self.by_kind.values() if all(name in captions for name in ids))
        captions = next(known, usual)
        return captions, dict(zip(captions, usual, strict=True))  # every kind lists the same images in file order


@dataclass(frozen=True)
class _Image:
    ids: dict[str, Any]
    """Kind of id -> id; the usual kind first."""
    captions: list[str]
    path: str
    domain: str | None = None


def read_references(file: Path, split: str | None = None) -> References:
    """Return a file's reference captions; `split` picks from a Karpathy file (test if None).

    Raises InputError if the file has none of the known layouts or an image has no caption with words, UsageError for a
    split of a file that has none.
    """
    content = read_rows(file) if file.suffix == ".jsonl" else read_json(file)
    is_karpathy = isinstance(content, dict) and "annotations" not in content
    if split is not None and not is_karpathy:
        raise UsageError(f"--split {split}: {file} has one split, and only Karpathy's files have several; leave it out")
    if file.suffix == ".jsonl":
        images = [_image(file, row, {"file_name": _get(row, "file_name")}, _get(row, "captions")) for row in content]
    elif isinstance(content, list):
        images = [_lavis(file, row) for row in content]
    elif isinstance(content, dict) and isinstance(content.get("annotations"), list):
        images = _coco(file, content)
    elif isinstance(content, dict) and isinstance(content.get("images"), list):
        images = _karpathy(file, content["images"], split or DEFAULT_SPLIT)
    else:
        raise InputError(
            f"{file}: not a caption file: expected COCO's {{images, annotations}}, Karpathy's {{images}}, "
            "a list of {image, caption} or captions.jsonl"
        )
    if not images:
        raise InputError(f"{file}: no image with captions")
    kinds = [kind for kind in images[0].ids if all(kind in image.ids for image in images)]
    by_kind = {kind: {str(image.ids[kind]): image.captions for image in images} for kind in kinds}
    unique = {kind: captions for kind, captions in by_kind.items() if len(captions) == len(images)}
    if not kinds:
        raise InputError(f"{file}: its images have no kind of id in common, expected the same ids for each")
    usual = kinds[0]
    if usual not in unique:
        raise InputError(f"{file}: the {usual} of an image occurs twice")
    return References(
        by_kind=unique,
        files={str(image.ids[usual]): image.path for image in images},
        domains={str(image.ids[usual]): image.domain for image in images if image.domain},
    )


def _image(
    file: Path, source: Any, ids: dict[str, Any], captions: Any, path: Any = None, domain: str | None = None
) -> _Image:
    known = {kind: name for kind, name in ids.items() if name is not None}
    if not known:
        raise InputError(f"{file}: found {shorten(source)}, expected an image with an id")
    name = next(iter(known.values()))
    texts = [captions] if isinstance(captions, str) else captions
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{file}: image {name} has no captions")
    if not any(text.strip() for text in texts):
        raise InputError(f"{file}: all captions of image {name} are empty, expected at least one with words")
    return _Image(known, texts, str(name if path is None else path), domain)


def _coco(file: Path, content: dict[str, Any]) -> list[_Image]:
    captions: dict[Any, list[str]] = {}
    for annotation in content["annotations"]:
        try:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
        except (KeyError, TypeError):
            raise InputError(f"{file}: found {shorten(annotation)}, expected image_id and caption") from None
    listed = {row["id"]: row for row in content.get("images") or () if isinstance(row, dict) and "id" in row}
    if unknown := [name for name in captions if listed and name not in listed]:
        raise InputError(f"{file}: annotations name image {unknown[0]}, which its images do not contain")
    images = []
    for name in listed or captions:
        row = listed.get(name, {})
        path = row.get("file_name")
        ids = {"id": name, **_ids_of(path)}
        images.append(_image(file, name, ids, captions.get(name), path, row.get("domain")))
    return images


def _karpathy(file: Path, rows: list[Any], split: str) -> list[_Image]:
    splits = sorted({str(row.get("split")) for row in rows if isinstance(row, dict)})
    if split not in splits:
        raise InputError(f"{file}: no split {split!r}, expected one of {', '.join(splits)}")
    images = []
    for row in rows:
        if row.get("split") == split:
            raw = [sentence.get("raw") for sentence in row.get("sentences") or ()]
            path = "/".join(filter(None, (row.get("filepath"), row.get("filename"))))
            # Flickr30k has no ids of its own: papers use the number in the file's name, the file counts images.
            ids = {"cocoid": row.get("cocoid"), **_ids_of(row.get("filename")), "imgid": row.get("imgid")}
            images.append(_image(file, row, ids, raw, path))
    return images


def _lavis(file: Path, row: Any) -> _Image:
    if not isinstance(row, dict):
        raise InputError(f"{file}: found {shorten(row)}, expected {{image, caption}}")
    path = row.get("image")
    ids: dict[str, Any] = {"img_id": row.get("img_id"), **_ids_of(path)}
    # COCO's number is the end of its file name: COCO_val2014_000000391895.jpg.
    number = ids.get("stem", "").rpartition("_")[2]
    if number.isdecimal():
        ids = {"cocoid": int(number), **ids}
    return _image(file, row, ids, row.get("caption"), path)


def _ids_of(path: Any) -> dict[str, str]:
    """Return the ids that a path gives: the file's name, and that without its suffix."""
    if not isinstance(path, str) or not path:
        return {}
    name = path.rpartition("/")[2]
    return {"stem": name.rpartition(".")[0] or name, "file": name, "path": path}


def _get(row: Any, key: str) -> Any:
    return row.get(key) if isinstance(row, dict) else None

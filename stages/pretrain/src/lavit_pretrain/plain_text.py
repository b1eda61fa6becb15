"""Reads `--text`: one document a line, with images of the tokens between its words where a row names them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lavit_core.data import IMAGE_MARK
from lavit_core.errors import InputError
from lavit_core.json_lines import iterate_json_objects
from lavit_core.progress import warn
from lavit_core.tokens import TokenReader, places_of_keys

from lavit_pretrain.conversation import images_at_marks
from lavit_pretrain.documents import Interleaved


def read_texts(files: Sequence[Path], reader: TokenReader) -> list[str | Interleaved]:
    """Return the documents of text files (a line each) and of .jsonl files of rows with "text" and perhaps "images".

    Documents with images that are not in the tokens are left out; a line counts them. Raises InputError naming file and
    line for anything else, or if no document is left.
    """
    found: list[str | Interleaved] = []
    for file in files:
        found += _rows(file, reader) if file.suffix.lower() == ".jsonl" else _lines(file)
    return found


def text_alone(document: str | Interleaved) -> str:
    """Return a document's text without its images."""
    if isinstance(document, str):
        return document
    return " ".join(piece for piece in document.pieces if isinstance(piece, str))


def _rows(file: Path, reader: TokenReader) -> list[str | Interleaved]:
    where: dict[str, Any] | None = None
    found: list[str | Interleaved] = []
    absent = words = 0
    for number, row in iterate_json_objects(file):
        text, images = row.get("text"), row.get("images", [])
        if not isinstance(text, str):
            raise InputError(f'{file}:{number}: a row without "text", expected one {{"text": ...}} a line')
        if not isinstance(images, list) or not all(isinstance(name, str) for name in images):
            raise InputError(f"{file}:{number}: images is no list of names, expected the keys of images in the tokens")
        marks = text.count(IMAGE_MARK)
        if "images" in row and marks != len(images):
            raise InputError(f"{file}:{number}: {marks} {IMAGE_MARK} but {len(images)} images, expected as many")
        if not images:
            words += marks > 0
            found += [text.strip()] if text.strip() else []
            continue
        where = places_of_keys(reader) if where is None else where
        if any(name not in where for name in images):
            absent += 1
            continue
        [pieces] = images_at_marks([text])
        places = [where[name][0] for name in images]
        found.append(Interleaved(tuple(piece if isinstance(piece, str) else places[piece] for piece in pieces)))
    if words:
        warn(f'{file}: {words} documents have {IMAGE_MARK} but no "images"; there it is a word like any other')
    return _some(found, file, absent)


def _lines(file: Path) -> list[str | Interleaved]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{file}: file not found") from None
    except (UnicodeDecodeError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"{file}: not readable as UTF-8 text ({error})") from None
    return _some([line.strip() for line in text.split("\n") if line.strip()], file, 0)


def _some(found: Sequence[str | Interleaved], file: Path, absent: int) -> list[str | Interleaved]:
    if absent and not found:
        raise InputError(f"{file}: all of its {absent} documents have images that are not in the tokens")
    if not found:
        raise InputError(f"{file}: no text in it, expected one document a line")
    if absent:
        warn(f"{file}: {absent} of {absent + len(found)} documents have images that are not in the tokens; left out")
    return list(found)

"""Data sets of the user: a folder with captions.jsonl and questions.jsonl, or nothing but a folder of images.

captions.jsonl     {"file_name": "images/1.png", "captions": ["a dog", ...]}, one line per image
questions.jsonl    {"question_id": 0, "file_name": "images/1.png", "question": "...", "answer": "...", "kind": "colour"}
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from lavit_core.errors import InputError, UsageError
from lavit_core.images import SUFFIXES
from lavit_core.json_lines import iterate_json_lines

CAPTIONS_FILE = "captions.jsonl"
QUESTIONS_FILE = "questions.jsonl"


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One image: its key (file_name in the jsonl, or path inside a bare folder), its file and its captions."""

    key: str
    path: Path
    captions: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One question on the image `key`; `kind` groups answers in a score."""

    question_id: int | str
    key: str
    question: str
    answer: str
    kind: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """An opened data set: records sorted by key, questions in file order."""

    root: Path
    layout: Literal["lavit", "images"]
    records: tuple[Record, ...]
    questions: tuple[Question, ...]
    digest: str
    """SHA-256 of the jsonl files and of every image's key and size in bytes."""
    num_empty_captions: int = 0
    """Captions of nothing but spaces, which are left out of the records."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a data set: its kind, and a line that names file and line number."""

    kind: Literal["line", "duplicate", "missing", "name"]
    message: str


def open_data(path: Path) -> Data:
    """Open a data set. Raises InputError with the first thing wrong, naming file, line and what was expected."""
    data, problems = scan_data(path)
    if problems:
        more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
        raise InputError(f"{problems[0].message}{more}; `lavit data inspect {path}` lists everything")
    return data


def check_data_folder(path: Path) -> None:
    """Raise InputError if `path` is not a folder; nothing in it is read."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise InputError(f"{path}: found {found}, expected a folder of images or one with {CAPTIONS_FILE}")


def scan_data(path: Path) -> tuple[Data, list[Problem]]:
    """Open a data set and collect every problem instead of stopping. Raises InputError if `path` is not a data set."""
    check_data_folder(path)
    listed = [path / name for name in (CAPTIONS_FILE, QUESTIONS_FILE) if (path / name).is_file()]
    problems: list[Problem] = []
    captions: dict[str, tuple[str, ...]] = {}
    num_empty_captions = 0
    questions: list[Question] = []
    if listed:
        captions, num_empty_captions = _read_captions(path / CAPTIONS_FILE, problems)
        questions = _read_questions(path / QUESTIONS_FILE, problems)
        for question in questions:
            captions.setdefault(question.key, ())
    else:
        if splits := sorted(file.parent.name for file in path.glob(f"*/{CAPTIONS_FILE}")):
            raise InputError(f"{path}: holds {', '.join(splits)}; give one of them, say {path / splits[0]}")
        captions = dict.fromkeys(find_images(path), ())
    if not captions and not problems:
        empty = f"{listed[0]}: empty, expected one line per image" if listed else None
        raise InputError(empty or f"{path}: no image ({', '.join(SUFFIXES)}) and no {CAPTIONS_FILE} here")
    digest = hashlib.sha256()
    for file in listed:
        digest.update(file.read_bytes())
    records = []
    for key in sorted(captions):
        file = path / key
        if not _is_text(key):
            message = f"{path}: the file name {os.fsencode(key)!r} is not UTF-8, expected one that is; rename the file"
            problems.append(Problem("name", message))
            continue
        try:
            size = os.stat(file).st_size
        except OSError:
            problems.append(Problem("missing", f"{file}: no such image, {_why_expected(path, key, listed)}"))
            continue
        digest.update(f"{key}\0{size}\n".encode())
        records.append(Record(key, file, captions[key]))
    layout: Literal["lavit", "images"] = "lavit" if listed else "images"
    data = Data(
        root=path,
        layout=layout,
        records=tuple(records),
        questions=tuple(questions),
        digest=digest.hexdigest(),
        num_empty_captions=num_empty_captions,
    )
    return data, problems


def check_out_outside(out: Path, data: Path) -> None:
    """Raise UsageError if `out` is inside the data folder, whose images and digest would change while they are read."""
    if out.resolve().is_relative_to(data.resolve()):
        raise UsageError(f"--out {out}: inside the data folder {data}, expected a folder outside it")


def _why_expected(root: Path, key: str, listed: list[Path]) -> str:
    """Return why a missing image was expected, and where it may be instead."""
    if not listed:
        return "only a link that leads nowhere"
    nearby = f"images/{key}"
    hint = f"; {root / nearby} is there: write file_name {nearby}" if (root / nearby).exists() else ""
    return f"yet {listed[0].name} or its neighbour names it{hint}"


def find_images(root: Path) -> list[str]:
    """Return the keys of every image file below a folder, hidden ones left out, sorted; linked folders count too.

    Raises InputError for a folder that can't be read.
    """
    return sorted(_images_below(root, "", ()))


def _images_below(folder: Path, inside: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield the keys below a folder; `above` are the folders that lead to it, to which a link may lead back."""
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        entries = [] if here in above else list(os.scandir(folder))
    except OSError as error:
        raise InputError(f"{folder}: can't be read ({error.strerror}), expected a folder of images") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _images_below(folder / entry.name, f"{inside}{entry.name}/", (*above, here))
        elif entry.name.lower().endswith(SUFFIXES):
            yield f"{inside}{entry.name}"


def _read_captions(file: Path, problems: list[Problem]) -> tuple[dict[str, tuple[str, ...]], int]:
    """Return the captions by key without empty ones, and how many of these there are."""
    captions: dict[str, tuple[str, ...]] = {}
    num_empty = 0
    lines: dict[str, int] = {}
    for number, row in _rows(file, problems):
        key, texts = row.get("file_name", ""), row.get("captions")
        if wrong := _wrong_key(key):
            problems.append(Problem("line", f"{file}:{number}: {wrong}"))
        elif not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            problems.append(
                Problem("line", f"{file}:{number}: captions is {_short(texts)}, expected a list of strings")
            )
        elif key in lines:
            message = f"{file}:{number}: {key} is already on line {lines[key]}, expected one line per image"
            problems.append(Problem("duplicate", message))
        else:
            lines[key], captions[key] = number, tuple(text for text in texts if text.strip())
            num_empty += len(texts) - len(captions[key])
    return captions, num_empty


def _read_questions(file: Path, problems: list[Problem]) -> list[Question]:
    questions = []
    lines: dict[int | str, int] = {}
    for number, row in _rows(file, problems):
        name, key, kind = row.get("question_id"), row.get("file_name", ""), row.get("kind")
        bad_text = [part for part in ("question", "answer") if not isinstance(row.get(part), str)]
        if wrong := _wrong_key(key):
            problems.append(Problem("line", f"{file}:{number}: {wrong}"))
        elif bad_text:
            message = f"{file}:{number}: {bad_text[0]} is {_short(row.get(bad_text[0]))}, expected a string"
            problems.append(Problem("line", message))
        elif not isinstance(name, int | str) or not isinstance(kind, str | None):
            message = f"question_id is {_short(name)}, kind {_short(kind)}, expected a number or string, and a string"
            problems.append(Problem("line", f"{file}:{number}: {message}"))
        elif name in lines:
            message = f"{file}:{number}: question_id {name!r} is already on line {lines[name]}"
            problems.append(Problem("duplicate", message))
        else:
            lines[name] = number
            questions.append(Question(name, key, row["question"], row["answer"], kind))
    return questions


def _rows(file: Path, problems: list[Problem]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a jsonl file, nothing without a file; collect what is wrong."""
    if not file.is_file():
        return
    for number, row in iterate_json_lines(file, lambda message: problems.append(Problem("line", message))):
        if isinstance(row, dict):
            yield number, row
        else:
            problems.append(Problem("line", f"{file}:{number}: found {_short(row)}, expected an object"))


def _wrong_key(key: Any) -> str | None:
    if not isinstance(key, str) or not key:
        return f"file_name is {_short(key)}, expected a string"
    if "\0" in key or key.startswith("/") or (".." in key and ".." in key.split("/")):
        return f"file_name {_short(key)} leads out of the data folder"
    return None


def _is_text(value: str) -> bool:
    """Return whether a string can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Our own layout.

captions.jsonl     {"file_name": "images/1.png", "captions": ["a dog", ...]}, one line per image
questions.jsonl    {"question_id": 0, "file_name": "images/1.png", "question": "...", "answer": "...", "kind": "colour"}
                   and, in a conversation, "earlier": [["question", "answer"], ...]: the turns before it.
                   "images": ["1.png", ...] in place of file_name: several, at marks <image> in the questions; or none
"""

import itertools
import posixpath
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.json_lines import iterate_json_lines
from lavit_core.layouts.columns import guess_columns
from lavit_core.layouts.place import Place, bad_line, short, wrong_key
from lavit_core.line_store import SortedRows
from lavit_core.marks import images_of, turns_about
from lavit_core.records import Contents, ListedImage, Problem, Question

CAPTIONS_FILE = "captions.jsonl"
QUESTIONS_FILE = "questions.jsonl"
FILES = (CAPTIONS_FILE, QUESTIONS_FILE)


def read_own(place: Place) -> Contents | None:
    """Return captions.jsonl and questions.jsonl of the folder; None if it has neither, or another tool's columns."""
    if place.file is not None and place.file.name not in FILES:
        return None
    listed = [place.root / name for name in FILES if (place.root / name).is_file()]
    if not listed or not _is_ours(place):
        return None
    contents = Contents(layout="lavit", root=place.root, files=listed)
    captions = _read_captions(place.root / CAPTIONS_FILE, contents)
    _read_questions(place.root / QUESTIONS_FILE, contents)
    for question in contents.questions:
        for key in question.keys:
            captions.add(key, None, [])
    if not len(captions) and not contents.problems:
        raise InputError(f"{listed[0]}: empty, expected one line per image")
    contents.listed = (ListedImage(key, next(same)[2]) for key, same in itertools.groupby(captions, key=itemgetter(0)))
    return contents


def _is_ours(place: Place) -> bool:
    """Return whether captions.jsonl has our keys; a first line that fits no layout is ours too, and refused."""
    file, source = place.root / CAPTIONS_FILE, place.source
    first = next(iterate_json_lines(file, lambda message: None), (1, None))[1] if file.is_file() else None
    if not isinstance(first, dict) or {"file_name", "captions"} <= set(first):
        return True
    return not guess_columns(list(first), image=source.image_column, caption=source.caption_column).useful


def _read_captions(file: Path, contents: Contents) -> SortedRows:
    """Return key, line number and captions of each line."""
    captions = SortedRows()
    odd = False
    for number, row in _rows(file, contents.problems):
        key, texts = row.get("file_name", ""), row.get("captions")
        if wrong := wrong_key(key):
            others = f"; its keys are {', '.join(row)}" if "file_name" not in row else ""
            contents.problems.append(bad_line(file, number, f"file_name {wrong}{others}"))
        elif not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            contents.problems.append(bad_line(file, number, f"captions is {short(texts)}, expected a list of strings"))
        else:
            captions.add(key, number, texts)
            odd = odd or _is_odd(key)
    doubles = _doubles(captions)
    doubles += _spelled_twice(captions) if odd else []
    for number, message in sorted(doubles):
        contents.problems.append(Problem("duplicate", f"{file}:{number}: {message}, expected one line per image"))
    return captions


def _is_odd(key: str) -> bool:
    return "./" in key or "//" in key


def _doubles(captions: SortedRows) -> list[tuple[int, str]]:
    """Return the lines whose key stands on a line before, and what to say of them."""
    found = []
    for key, same in itertools.groupby(captions, key=itemgetter(0)):
        first, *others = [number for _, number, _ in same]
        found += [(number, f"{key} is already on line {first}") for number in others]
    return found


def _spelled_twice(captions: SortedRows) -> list[tuple[int, str]]:
    """Return the lines whose key is that of another line in another spelling, and what to say of them."""
    spellings, found = SortedRows(), []
    for key, same in itertools.groupby(captions, key=itemgetter(0)):
        spellings.add(posixpath.normpath(key), _is_odd(key), next(same)[1], key)
    for _, same in itertools.groupby(spellings, key=itemgetter(0)):
        (_, line, other), *others = sorted(row[1:] for row in same)
        found += [(number, f"{key} is {other} of line {line} in another spelling") for _, number, key in others]
    return found


def _read_questions(file: Path, contents: Contents) -> None:
    problems = contents.problems
    lines: dict[int | str, int] = {}
    for number, row in _rows(file, problems):
        name, kind = row.get("question_id"), row.get("kind")
        named = row.get("images", [row.get("file_name", "")])
        keys = named if isinstance(named, list) else []
        bad_text = [part for part in ("question", "answer") if not isinstance(row.get(part), str)]
        if wrong := next(filter(None, map(wrong_key, keys)), None):
            problems.append(bad_line(file, number, f"{'images' if 'images' in row else 'file_name'} {wrong}"))
        elif bad_text:
            message = f"{bad_text[0]} is {short(row.get(bad_text[0]))}, expected a string"
            problems.append(bad_line(file, number, message))
        elif not isinstance(name, int | str) or not isinstance(kind, str | None):
            message = f"question_id is {short(name)}, kind {short(kind)}, expected a number or string, and a string"
            problems.append(bad_line(file, number, message))
        elif (earlier := earlier_turns(row.get("earlier", []))) is None:
            message = f"earlier is {short(row['earlier'])}, expected a list of [question, answer]"
            problems.append(bad_line(file, number, message))
        elif isinstance(images := images_of(row, [*(asked for asked, _ in earlier), row["question"]]), str):
            problems.append(bad_line(file, number, images))
        elif name in lines:
            message = f"{file}:{number}: question_id {name!r} is already on line {lines[name]}"
            problems.append(Problem("duplicate", message))
        else:
            lines[name] = number
            several = images if len(images) > 1 else ()
            *before, (question, answer) = turns_about([*earlier, (row["question"], row["answer"])], len(images))
            contents.questions.append(
                Question(name, images[0] if images else "", question, answer, kind, tuple(before), several)
            )


def earlier_turns(value: Any) -> tuple[tuple[str, str], ...] | None:
    """Return the turns before a question, None if they are no pairs of strings."""
    pairs: list[Any] = value if isinstance(value, list) else [None]
    if not all(isinstance(pair, list) and [type(text) for text in pair] == [str, str] for pair in pairs):
        return None
    return tuple((question, answer) for question, answer in pairs)


def _rows(file: Path, problems: list[Problem]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a jsonl file, nothing without a file; collect what is wrong."""
    if not file.is_file():
        return
    for number, row in iterate_json_lines(file, lambda message: problems.append(Problem("line", message))):
        if isinstance(row, dict):
            yield number, row
        else:
            problems.append(bad_line(file, number, f"found {short(row)}, expected an object"))

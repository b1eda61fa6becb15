"""VQAv2 (and OK-VQA): a file of questions, and one of their answers.

questions      {"data_subtype": "val2014", "questions": [{"question_id": 7, "image_id": 1, "question": "who?"}]}
annotations    {"annotations": [{"question_id": 7, "multiple_choice_answer": "dog", "answer_type": "other"}]}
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.folders import find_images
from lavit_core.layouts.place import Place, bad_line, one_of, short
from lavit_core.records import Contents, Problem, Question, Source


def read_vqa(place: Place) -> Contents | None:
    """Return the questions of the only file of them with the answers of the annotations beside it, else None.

    An image belongs to a question if the digits at the end of its name are the question's image_id. Raises InputError
    for questions without answers.
    """
    asked = [file for file, value in place.json_files.items() if _has(value, "questions", "question")]
    if not asked:
        return None
    file = one_of(asked, "files of questions", place.root)
    value = place.json_files[file]
    answer_file, answers = _answers(place, file, value.get("data_subtype"))
    contents = Contents(layout="vqa", root=place.root, files=[file, answer_file], named_by="image_id")
    if place.file is not None and not find_images(place.root):
        contents.root = place.root.absolute().parent
    by_number = _images_by_number(contents.root)
    seen: set[Any] = set()
    for row in value["questions"]:
        name, text = (row.get("question_id"), row.get("question")) if isinstance(row, dict) else (None, None)
        where = f"question {short(name)}"
        if not isinstance(name, int | str) or not isinstance(text, str):
            contents.problems.append(bad_line(file, where, f"{short(row)}, expected question_id and question"))
            continue
        if name in seen:
            contents.problems.append(Problem("duplicate", f"{file}: {where} is there twice"))
        elif (answer := answers.get(name)) is None:
            contents.problems.append(bad_line(answer_file, where, "no answer, expected one for every question"))
        elif key := _key(contents, file, by_number, row.get("image_id"), value.get("data_subtype")):
            contents.captions.setdefault(key, ())
            contents.questions.append(Question(name, key, text, *answer))
        seen.add(name)
    return contents


def _answers(place: Place, file: Path, part: Any) -> tuple[Path, dict[Any, tuple[str, str | None]]]:
    """Return the file of answers and its (answer, kind) by question."""
    beside = place if place.file is None else Place(Source(place.root))
    found = {one: value for one, value in beside.json_files.items() if _has(value, "annotations", "question_id")}
    same = [one for one, value in found.items() if value.get("data_subtype", part) == part]
    if not same:
        raise InputError(f"{file}: questions without answers, expected a JSON file of annotations beside it")
    chosen = one_of(same, "files of answers", beside.root)
    rows = [row for row in found[chosen]["annotations"] if isinstance(row, dict)]
    named = [(row.get("question_id"), _answer(row)) for row in rows]
    return chosen, {name: answer for name, answer in named if isinstance(name, int | str) and answer is not None}


def _answer(row: dict[str, Any]) -> tuple[str, str | None] | None:
    """Return the answer and its kind: the one marked as such, else the commonest of the annotators'."""
    listed = row.get("answers")
    given = [one.get("answer") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    common = Counter(text for text in given if isinstance(text, str)).most_common(1)
    marked = row.get("multiple_choice_answer")
    answer = common[0][0] if marked is None and common else marked
    kind = row.get("answer_type")
    return (answer, kind if isinstance(kind, str) else None) if isinstance(answer, str) else None


def _has(value: Any, name: str, part: str) -> bool:
    rows = value.get(name) if isinstance(value, dict) else None
    return isinstance(rows, list) and bool(rows) and isinstance(rows[0], dict) and part in rows[0]


def _images_by_number(root: Path) -> dict[int, list[str]]:
    """Return the images by the number that their names end in: COCO_val2014_000000000001.jpg is 1."""
    found: dict[int, list[str]] = {}
    for key in find_images(root):
        if digits := re.search(r"(\d+)\.[^./]+$", key):
            found.setdefault(int(digits[1]), []).append(key)
    return found


def _key(contents: Contents, file: Path, by_number: dict[int, list[str]], image: Any, part: Any) -> str | None:
    """Return the key of an image by its number, or None and a problem; `part` chooses among several."""
    number = int(image) if isinstance(image, int | str) and str(image).isascii() and str(image).isdigit() else -1
    keys = by_number.get(number, [])
    if len(keys) > 1 and isinstance(part, str):
        keys = [key for key in keys if part in key] or keys
    if len(keys) == 1:
        return keys[0]
    found = f"it may be any of {', '.join(keys[:3])}" if keys else f"no image below {contents.root} ends in this number"
    contents.problems.append(Problem("missing", f"{file}: image_id {short(image)}: {found}"))
    return None

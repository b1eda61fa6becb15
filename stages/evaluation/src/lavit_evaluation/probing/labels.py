"""What a probe is asked to read: labels of places in images, or of whole images.

labels.jsonl   {"file_name": "images/1.png", "label": "dog", "kind": "animal", "box": [left, top, right, bottom]}

One line a label. `kind` (default "label") names what is asked, and every kind is a probe of its own; `box`, or
`point` [x, y], in pixels of the image, says where; without either the label is the whole image's.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavit_core.data import Data
from lavit_core.errors import InputError
from lavit_core.images import open_rgb
from lavit_core.json_lines import iterate_json_lines
from lavit_shapes.scenes import Scene, SceneObject

from lavit_evaluation.shapes.heldout import scenes_of

LABELS_FILE = "labels.jsonl"

CLEAR_SHARE = 1 / 16
"""An object's place is asked only when its centre is further than this share of the side from both middle lines."""

MOST_QUESTIONS = 8
"""Of the questions that are asked of several images, the ones asked most often become probes."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Label:
    """One label: the image, what it says, and where."""

    key: str
    value: str
    box: Box | None
    """Left, top, right, bottom in pixels of the image; a point has no extent; None is the whole image."""
    combination: str = ""
    """For drawn objects, "seen" or "unseen": whether images marked as seen show this colour with this shape."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels of a data set by kind, and where they were found."""

    source: str
    by_kind: dict[str, list[Label]]


def read_labels(data: Data, file: Path | None = None) -> Labels:
    """Return the labels of a data set: of `file`, else of its labels.jsonl, its drawn objects, or its questions.

    Raises InputError for a broken file, or when there is nothing to probe for.
    """
    if file is None and (data.root / LABELS_FILE).is_file():
        file = data.root / LABELS_FILE
    if file is not None:
        return Labels(source=LABELS_FILE, by_kind=_from_file(file, {record.key for record in data.records}))
    if scenes := scenes_of(data):
        width = open_rgb(data.records[0].image).width
        return Labels(source="scenes.jsonl", by_kind=_from_scenes(list(scenes.values()), width))
    if by_kind := _from_questions(data):
        return Labels(source="questions.jsonl", by_kind=by_kind)
    raise InputError(
        f"{data.root}: nothing to probe for; write {LABELS_FILE} with lines "
        '{"file_name": "images/1.png", "label": "dog"} (box and point are optional) or give --labels FILE'
    )


def _from_file(file: Path, keys: set[str]) -> dict[str, list[Label]]:
    by_kind: dict[str, list[Label]] = defaultdict(list)
    for number, row in iterate_json_lines(file):
        label = _label(row, f"{file}:{number}")
        # --labels may be about more images than this data set has.
        if label.key in keys:
            by_kind[str(row.get("kind", "label"))].append(label)
    if not by_kind:
        raise InputError(f"{file}: no label is about an image of the data; file_name must be as in captions.jsonl")
    return dict(by_kind)


def _label(row: Any, where: str) -> Label:
    expected = "an object with file_name, label and perhaps kind, box or point"
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise InputError(f"{where}: found {json.dumps(row)[:60]}, expected {expected}")
    value = row.get("label")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{where}: label is {json.dumps(value)[:60]}, expected a string or a whole number")
    box, point = row.get("box"), row.get("point")
    if box is not None and not _numbers(box, 4):
        raise InputError(f"{where}: box is {json.dumps(box)[:60]}, expected [left, top, right, bottom] in pixels")
    if point is not None and not _numbers(point, 2):
        raise InputError(f"{where}: point is {json.dumps(point)[:60]}, expected [x, y] in pixels")
    if box is not None and point is not None:
        raise InputError(f"{where}: found box and point, expected one of them")
    if box is None and point is not None:
        box = [*point, *point]
    return Label(row["file_name"], str(value), None if box is None else (box[0], box[1], box[2], box[3]))


def _numbers(value: Any, count: int) -> bool:
    """Whether a box or point is so many numbers, and a box not inside out."""
    if not isinstance(value, list) or len(value) != count:
        return False
    if not all(isinstance(part, int | float) and not isinstance(part, bool) for part in value):
        return False
    return count == 2 or (value[0] <= value[2] and value[1] <= value[3])


def _from_scenes(scenes: list[Scene], width: int) -> dict[str, list[Label]]:
    shown = {_pair(thing) for scene in scenes if scene.combination == "seen" for thing in scene.objects}
    by_kind: dict[str, list[Label]] = {"colour": [], "shape": [], "place": []}
    for scene in scenes:
        for thing in scene.objects:
            x, y, radius = float(thing.x), float(thing.y), float(thing.radius)
            box = (x - radius, y - radius, x + radius, y + radius)
            combination = "seen" if scene.combination == "seen" or _pair(thing) in shown else "unseen"
            by_kind["colour"].append(Label(scene.key, thing.colour, box, combination))
            by_kind["shape"].append(Label(scene.key, thing.shape, box, combination))
            if min(abs(x - width / 2), abs(y - width / 2)) > CLEAR_SHARE * width:
                value = f"{'top' if y < width / 2 else 'bottom'} {'left' if x < width / 2 else 'right'}"
                by_kind["place"].append(Label(scene.key, value, box, combination))
    return by_kind


def _pair(thing: SceneObject) -> tuple[str, str]:
    return thing.colour, thing.shape


def _from_questions(data: Data) -> dict[str, list[Label]]:
    questions = [question for question in data.questions if question.num_images == 1]
    asked = Counter(question.question for question in questions)
    chosen = [text for text, count in asked.most_common(MOST_QUESTIONS) if count > 1]
    return {text: [Label(one.key, one.answer, None) for one in questions if one.question == text] for text in chosen}

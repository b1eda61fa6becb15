"""Marks in the questions of a conversation, which say where its images are read."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lavit_core.records import IMAGE_MARK

_MARK = re.compile(rf"\s*{re.escape(IMAGE_MARK)}\s*")


def without_marks(text: str) -> str:
    """Return a question without its marks."""
    return _MARK.sub(" ", text).strip() if IMAGE_MARK in text else text


def turns_about(turns: Sequence[tuple[str, str]], num_images: int) -> tuple[tuple[str, str], ...]:
    """Return the (question, answer) turns of a conversation; marks are kept where they say which image is read."""
    if num_images > 1:
        return tuple(turns)
    return tuple((without_marks(question), answer) for question, answer in turns)


def count_marks(texts: Sequence[str]) -> int:
    """Return the number of marks in the questions of a conversation."""
    return sum(text.count(IMAGE_MARK) for text in texts)


def wrong_marks(texts: Sequence[str], num_images: int) -> str | None:
    """Return what is wrong with the marks in the questions of a conversation about several images or none, or None."""
    found = count_marks(texts)
    if found == num_images:
        return None
    return f"{found} {IMAGE_MARK} in the questions but {num_images} images, expected one for each"


def images_of(row: Mapping[str, Any], questions: Sequence[str]) -> tuple[str, ...] | str:
    """Return the images of a row of questions.jsonl: its `file_name`, or its list `images`; or what is wrong with it.

    `questions` are the questions of its conversation, in order.
    """
    if "images" not in row:
        return (row["file_name"],)
    names = row["images"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or "file_name" in row:
        return "images is no list of names, or there is file_name too; expected one of both"
    return tuple(names) if len(names) == 1 else wrong_marks(questions, len(names)) or tuple(names)

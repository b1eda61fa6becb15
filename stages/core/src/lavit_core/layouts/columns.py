"""Which column of a table holds what: by the names that data sets use."""

import dataclasses
from collections.abc import Sequence
from typing import Any

IMAGE = (
    "file_name", "filename", "file", "filepath", "file_path", "path", "image", "image_path", "image_file", "image_name",
    "img", "img_path", "jpg", "png",
)  # fmt: skip
CAPTION = (
    "captions", "caption", "text", "texts", "title", "description", "sentence", "sentences", "sentences_raw", "comment",
    "prompt", "txt", "alt_text", "caption_text",
)  # fmt: skip
QUESTION, ANSWER = ("question",), ("answer", "multiple_choice_answer", "label", "answers")
ID, KIND = ("question_id", "questionid", "id"), ("kind", "answer_type", "type")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of a table's columns, as they stand in it."""

    image: str | None
    caption: str | None
    question: str | None
    answer: str | None
    question_id: str | None
    kind: str | None
    guessed: tuple[str, ...]
    """Sentences on what was guessed."""

    @property
    def useful(self) -> bool:
        """Whether images have texts."""
        return self.image is not None and (self.caption is not None or self.question is not None)


def guess_columns(names: Sequence[str], *, image: str | None, caption: str | None) -> Columns:
    """Return the columns of a table; `image` and `caption` are what the user named (`none`: no captions)."""
    question, answer = _first(names, QUESTION), _first(names, ANSWER)
    if question is None or answer is None:
        question = answer = None
    found_image, found_caption = _named(names, image, IMAGE), _named(names, caption, CAPTION)
    guessed = []
    if image is None and found_image is not None:
        guessed.append(f"column {found_image!r} names the image (--image-column)")
    if caption is None and found_caption is not None:
        rest = [name for name in names if _plain(name) in CAPTION and name != found_caption]
        others = f", and not {', '.join(map(repr, rest))}" if rest else ""
        guessed.append(f"{found_caption!r} holds captions{others} (--caption-column)")
    if question is not None:
        guessed.append(f"{question!r} and {answer!r} are questions and answers")
    return Columns(
        image=found_image,
        caption=found_caption,
        question=question,
        answer=answer,
        question_id=_first(names, ID),
        kind=_first(names, KIND),
        guessed=tuple(guessed),
    )


def _named(names: Sequence[str], given: str | None, usual: Sequence[str]) -> str | None:
    if given is None:
        return _first(names, usual)
    return given if given in names else None


def _first(names: Sequence[str], usual: Sequence[str]) -> str | None:
    by_plain: dict[str, str] = {}
    for name in names:
        by_plain.setdefault(_plain(name), name)
    return next((by_plain[name] for name in usual if name in by_plain), None)


def _plain(name: Any) -> str:
    return str(name).strip().lower()

"""Prompts as callers give them: texts, images, and `<image>` placeholders. Never imports torch."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from lavit_core.data import IMAGE_MARK
from lavit_core.errors import UsageError

from lavit.images import EXPECTED, is_image

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from PIL import Image
    from torch import Tensor

PLACEHOLDER = IMAGE_MARK
"""Stands in a text where one of the prompt's images is read."""

TURNS = "(question, answer) pairs"

PromptLike: TypeAlias = "str | Sequence[str | Image.Image | os.PathLike[str] | np.ndarray | Tensor]"
"""A text, or texts and images in the order they are read. A file is a `pathlib.Path` here (a `str` is text); an image
may also be its codes int64 [n]. Where texts have `<image>` placeholders, the images take their places in order:
`["<image> as an oil painting", image]`. White space around a text, and a text of nothing else, say nothing."""


def prompt_list(prompts: Any) -> list[list[Any]]:
    """Return one prompt (a text) or several as lists of pieces: stripped texts, images and codes int64 [n].

    Raises UsageError for no prompt, a piece of another kind, or another number of `<image>` than of images.
    """
    if not _is_listing(prompts) or is_image(prompts):
        raise UsageError(f"prompts: found {type(prompts).__name__}, expected a text, or texts and images in a list a "
                         "prompt")  # fmt: skip
    listed = [prompts] if isinstance(prompts, str) else list(prompts)
    if not listed:
        raise UsageError("prompts: found none, expected a text, or texts and images in a list a prompt")
    return [_pieces(prompt, f"prompts[{place}]") for place, prompt in enumerate(listed)]


def question_list(questions: Any, name: str) -> list[Any]:
    """Return one question or several, each a text as it is or a list of texts and images.

    Raises UsageError for none, a piece of another kind, or another number of `<image>` than of images.
    """
    if not _is_listing(questions):
        raise UsageError(f"{name}: found {type(questions).__name__}, expected a text or a list of questions")
    listed = [questions] if isinstance(questions, str) else list(questions)
    if not listed:
        raise UsageError(f"{name}: found none, expected at least one")
    return [question_of(question, f"{name}[{place}]") for place, question in enumerate(listed)]


def earlier_list(earlier: Any) -> list[list[tuple[Any, str]]]:
    """Return the (question, answer) pairs before each question. Raises UsageError for another form, and as
    `question_list` does."""
    if not isinstance(earlier, list | tuple):
        raise UsageError(f"earlier: found {type(earlier).__name__}, expected a list of {TURNS} for each question")
    for place, turns in enumerate(earlier):
        if not isinstance(turns, list | tuple):
            raise UsageError(f"earlier[{place}]: found {type(turns).__name__}, expected a list of {TURNS}")
    return [
        [_turn(turn, f"earlier[{place}][{number}]") for number, turn in enumerate(turns)]
        for place, turns in enumerate(earlier)
    ]


def _turn(turn: Any, where: str) -> tuple[Any, str]:
    if not isinstance(turn, list | tuple) or len(turn) != 2:
        found = f"{len(turn)} values" if isinstance(turn, list | tuple) else type(turn).__name__
        raise UsageError(f"{where}: found {found}, expected a (question, answer) pair")
    question, reply = turn
    check_text(reply, f"{where}: answer")
    return question_of(question, where), reply


def question_of(question: Any, where: str) -> Any:
    """Return a question, a text as it is or a list of texts and images. Raises UsageError as `question_list` does."""
    if not isinstance(question, str):
        return _pieces(question, where)
    check_text(question, where)
    return question


def text_list(texts: Any, name: str, *, least: int = 1) -> list[str]:
    """Return one text or several as a list. Raises UsageError for fewer than `least`, and for what is no text."""
    if not _is_listing(texts):
        raise UsageError(f"{name}: found {type(texts).__name__}, expected a text or a list of texts")
    listed = [texts] if isinstance(texts, str) else list(texts)
    if len(listed) < least:
        raise UsageError(f"{name}: found none, expected at least one")
    for place, text in enumerate(listed):
        check_text(text, f"{name}[{place}]")
    return listed


def check_text(text: Any, where: str) -> None:
    """Raise UsageError for what is no text, or has no UTF-8: a surrogate that stands alone."""
    if not isinstance(text, str):
        raise UsageError(f"{where}: found {type(text).__name__}, expected a text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"a surrogate without its partner ({text[error.start]!r}, character {error.start})"
        raise UsageError(f"{where}: found {found}, expected Unicode text") from None


def _is_listing(value: Any) -> bool:
    """Return whether a value is a text or can be listed; a mapping would be listed as its keys."""
    return isinstance(value, Iterable) and not isinstance(value, Mapping)


def _pieces(prompt: Any, where: str) -> list[Any]:
    pieces = [prompt] if isinstance(prompt, str) else list(prompt) if isinstance(prompt, list | tuple) else None
    if pieces is None:
        raise UsageError(f"{where}: found {type(prompt).__name__}, expected a text, or texts and images in a "
                         "list")  # fmt: skip
    for piece in pieces:
        if not isinstance(piece, str) and not is_image(piece) and not is_codes(piece):
            raise UsageError(f"{where}: found {type(piece).__name__} in it, {EXPECTED}, a text or codes [n]")
        if isinstance(piece, str):
            check_text(piece, where)
    images = [piece for piece in pieces if not isinstance(piece, str)]
    wanted = sum(piece.count(PLACEHOLDER) for piece in pieces if isinstance(piece, str))
    if wanted and wanted != len(images):
        raise UsageError(f"{where}: {wanted} {PLACEHOLDER} but {len(images)} images, expected as many")
    filled = _filled(pieces, images) if wanted else pieces
    stripped = [piece.strip() if isinstance(piece, str) else piece for piece in filled]
    # As the whole prompt an empty text means "anything".
    return [piece for piece in stripped if not isinstance(piece, str) or piece] or [""]


def _filled(pieces: list[Any], images: list[Any]) -> list[Any]:
    """Return the texts, cut at their placeholders, with the images between."""
    remaining = iter(images)
    filled: list[Any] = []
    for text in (piece for piece in pieces if isinstance(piece, str)):
        for number, part in enumerate(text.split(PLACEHOLDER)):
            filled += [next(remaining), part] if number else [part]
    return filled


def is_codes(piece: Any) -> bool:
    """Return whether a piece of a prompt is codes int [n]."""
    return isinstance(piece, np.ndarray) and piece.ndim == 1 and np.issubdtype(piece.dtype, np.integer)

"""Opening a model for `lavit caption` and `lavit ask`."""

from collections.abc import Sequence
from pathlib import Path

from lavit import LaVIT
from lavit.prompts import PromptLike
from lavit_core.command import CommonOptions
from lavit_core.data import IMAGE_MARK
from lavit_core.progress import warn


def open_reader(model: Path, common: CommonOptions) -> LaVIT:
    """Open a model for one command, which needs tokenizer and language model one after the other.

    A model that was trained without images is warned of. Raises InputError if a part is missing.
    """
    parts = ("tokenizer", "llm")
    reader = LaVIT.from_pretrained(
        model, parts=parts, device=common.device, precision=common.precision, low_memory=True
    )
    if reader.image_input == "none":
        warn(f"{model}: this model was trained without images: it answers blind")
    return reader


def ask(
    reader: LaVIT,
    images: Sequence[Path],
    questions: Sequence[str],
    turns: Sequence[tuple[str, str]],
    *,
    conversation: bool,
    max_tokens: int,
    chat: bool = False,
) -> list[str]:
    """Return the answer to each question after `turns`, in a `conversation` also after the questions before it and what
    the model answered.

    One image is read before all that is said. Several are read in the question, of a conversation in its first one, and
    `turns` are then none.
    """
    first = images[0] if len(images) == 1 else None
    shown = 0 if first else 1 if conversation else len(questions)
    asked: list[PromptLike] = [*(_about(images, question) for question in questions[:shown]), *questions[shown:]]
    if not conversation:
        return reader.answer(first, asked, max_tokens=max_tokens, earlier=[turns] * len(asked), chat=chat)
    said: list[tuple[PromptLike, str]] = list(turns)
    for question in asked:
        [answer] = reader.answer(first, [question], max_tokens=max_tokens, earlier=[said], chat=chat)
        said.append((question, answer))
    return [answer for _, answer in said[len(turns) :]]


def _about(images: Sequence[Path], question: str) -> PromptLike:
    """Return a question with images: at its marks, or before it if it has none."""
    return [question, *images] if IMAGE_MARK in question else [*images, question]

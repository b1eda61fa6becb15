"""Opening a model for `lavit caption` and `lavit ask`."""

from collections.abc import Sequence
from pathlib import Path

from lavit import LaVIT
from lavit_core.command import CommonOptions
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


def converse(
    reader: LaVIT,
    image: Path,
    questions: Sequence[str],
    turns: Sequence[tuple[str, str]],
    *,
    max_tokens: int,
    chat: bool = False,
) -> list[str]:
    """Return the answer to each question after `turns`, the questions before it and the answers the model gave."""
    said = list(turns)
    for question in questions:
        [answer] = reader.answer(image, question, max_tokens=max_tokens, earlier=[said], chat=chat)
        said.append((question, answer))
    return [answer for _, answer in said[len(turns) :]]

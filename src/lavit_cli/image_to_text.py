"""`lavit caption` and `lavit ask`: what the model says about image files."""

from collections.abc import Sequence
from pathlib import Path

from lavit import LaVIT
from lavit_core.progress import warn


def caption_files(
    images: Sequence[Path], model: Path, *, max_tokens: int = 36, device: str = "auto", precision: str = "auto"
) -> list[dict[str, str]]:
    """Return one row {image, caption} an image file. Raises InputError for an unreadable file."""
    captions = open_reader(model, device=device, precision=precision).caption(images, max_tokens=max_tokens)
    return [{"image": str(image), "caption": text} for image, text in zip(images, captions, strict=True)]


def ask_file(
    image: Path,
    questions: Sequence[str],
    model: Path,
    *,
    max_tokens: int = 10,
    device: str = "auto",
    precision: str = "auto",
) -> list[dict[str, str]]:
    """Return one row {image, question, answer} a question. Raises InputError for an unreadable file."""
    answers = open_reader(model, device=device, precision=precision).answer(image, questions, max_tokens=max_tokens)
    return [
        {"image": str(image), "question": question, "answer": text}
        for question, text in zip(questions, answers, strict=True)
    ]


def open_reader(model: Path, *, device: str, precision: str) -> LaVIT:
    """Open a model for one command, which needs tokenizer and language model one after the other.

    A model that was trained without images is warned of. Raises InputError if a part is missing.
    """
    reader = LaVIT.from_pretrained(
        model, parts=("tokenizer", "llm"), device=device, precision=precision, low_memory=True
    )
    if reader.image_input == "none":
        warn(f"{model}: this model was trained without images: it answers blind")
    return reader

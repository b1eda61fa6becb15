"""`lavit ask`: questions about one picture."""

from collections.abc import Sequence
from pathlib import Path

from lavit_pretrain.caption import look_at
from lavit_pretrain.reading import answer


def ask_file(
    picture: Path,
    questions: Sequence[str],
    model: Path,
    *,
    max_tokens: int = 10,
    device: str = "auto",
    precision: str = "auto",
) -> list[dict[str, str]]:
    """Return one row {image, question, answer} a question. Raises InputError for an unreadable file."""
    llm, image = look_at(model, [picture], device=device, precision=precision)
    answers = answer(llm, image.take([0] * len(questions)), questions, max_tokens=max_tokens)
    return [
        {"image": str(picture), "question": question, "answer": text}
        for question, text in zip(questions, answers, strict=True)
    ]

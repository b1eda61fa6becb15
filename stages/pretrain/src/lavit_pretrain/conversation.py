"""Conversations about any number of images, as parts of a sequence; training documents and prompts are made of them.

plain    each turn is the images of its question, in order, then `Question: ... Answer: ... <eos>`
chat     the language model's own template (`chat.py`); images stand where the question has them
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from lavit_core.data import IMAGE_MARK

from lavit_pretrain.chat import ChatTemplate
from lavit_pretrain.text_tokenizer import TextCodec

QuestionPieces = str | Sequence[str | int]
"""A question: a text, or texts and images (by their number in the conversation) in the order they are read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Ids of a conversation, or one of its images."""

    turn: int
    """Which turn it belongs to."""
    ids: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    """int64 [n]; of an image none."""
    image: int | None = None
    """Number of the image that is read here."""
    is_reply: bool = False
    """Whether a training on this conversation scores it: the last reply; without a template each reply is one."""


def conversation_parts(
    codec: TextCodec, chat: ChatTemplate | None, asked: Sequence[QuestionPieces], replies: Sequence[str]
) -> list[Part]:
    """Return the parts of a conversation; with one reply less than questions it ends where the last reply begins.

    Raises UsageError for a template that can't write it.
    """
    questions = [_pieces(question) for question in asked]
    if chat is not None:
        return _by_template(codec, chat, questions, replies)
    parts: list[Part] = []
    for turn, pieces in enumerate(questions):
        parts += [Part(turn=turn, image=piece) for piece in pieces if isinstance(piece, int)]
        prompt, reply = codec.question(text_of(pieces), replies[turn] if turn < len(replies) else None)
        parts.append(Part(turn=turn, ids=prompt))
        parts += [Part(turn=turn, ids=reply, is_reply=True)] if turn < len(replies) else []
    return parts


def _by_template(
    codec: TextCodec, chat: ChatTemplate, questions: Sequence[Sequence[str | int]], replies: Sequence[str]
) -> list[Part]:
    frame = chat.frame(len(questions), replied=len(replies) == len(questions))
    parts: list[Part] = []
    for turn, pieces in enumerate(questions):
        parts.append(Part(turn=turn, ids=frame.before[turn]))
        parts += [
            Part(turn=turn, image=piece) if isinstance(piece, int) else Part(turn=turn, ids=codec.encode(piece))
            for piece in pieces
        ]
        parts.append(Part(turn=turn, ids=frame.between[turn]))
        if turn < len(questions) - 1:
            parts.append(Part(turn=turn, ids=codec.encode(replies[turn])))
    if len(replies) == len(questions):
        reply = np.concatenate([frame.opened, codec.encode(replies[-1]), frame.end])
        parts.append(Part(turn=len(questions) - 1, ids=reply, is_reply=True))
    return parts


def image_first(asked: Sequence[QuestionPieces]) -> list[QuestionPieces]:
    """Return the questions of a conversation about one image: it begins with it, as LLaVA puts its only one first."""
    return [[0, *_pieces(asked[0])], *asked[1:]]


def images_at_marks(asked: Sequence[str]) -> list[QuestionPieces]:
    """Return questions with the images that their `<image>` marks stand for, numbered in the order of the marks."""
    number, found = 0, list[QuestionPieces]()
    for text in asked:
        pieces: list[str | int] = []
        for place, piece in enumerate(text.split(IMAGE_MARK)):
            if place:
                pieces.append(number)
                number += 1
            pieces += [piece.strip()] if piece.strip() else []
        found.append(pieces)
    return found


def text_of(asked: QuestionPieces) -> str:
    """Return the text of a question without its images."""
    return asked if isinstance(asked, str) else " ".join(piece for piece in asked if isinstance(piece, str))


def _pieces(asked: QuestionPieces) -> Sequence[str | int]:
    return [asked] if isinstance(asked, str) else asked

"""What requests ask of the model, and a batch of it computed at once.

Works of one group differ in their images, texts and seeds alone, so one call of the model answers them together.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from lavit import DrawSettings, LaVIT, SampleSettings
from lavit.prompts import PromptLike


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One image a seed of a prompt: texts and images uint8 [h, w, 3] in the order they are read."""

    prompt: Sequence[str | np.ndarray]
    seeds: Sequence[int]
    sampling: SampleSettings
    drawing: DrawSettings


@dataclass(frozen=True, kw_only=True)
class Decode:
    """The images of codes int64 [n], one seed each."""

    codes: Sequence[np.ndarray]
    seeds: Sequence[int]
    drawing: DrawSettings


@dataclass(frozen=True, kw_only=True)
class Encode:
    """The tokens of images uint8 [h, w, 3]."""

    images: Sequence[np.ndarray]
    selection: str | None
    tokens: int | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class Describe:
    """A caption of an image."""

    image: np.ndarray
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class Ask:
    """The answer to a question after a conversation, about any number of images.

    A question is a text, or texts and images uint8 [h, w, 3] in the order they are read.
    """

    question: PromptLike
    earlier: Sequence[tuple[PromptLike, str]]
    max_tokens: int


Work: TypeAlias = Draw | Decode | Encode | Describe | Ask


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """An image as tokens."""

    codes: np.ndarray
    """int64 [n]"""
    kept: np.ndarray
    """int64 [n]: which patches were kept, counted in raster order."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text that the model wrote."""

    text: str
    num_tokens: int
    """Text tokens, without the end token."""
    num_asked: int
    """Text tokens of the conversation and the question; images have none."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Progress of one work: codes drawn, or denoising steps done."""

    stage: str
    step: int
    num_steps: int


Report: TypeAlias = Callable[[int, Step], None]
"""Is told the index of a work and how far it is; it may raise, which ends the batch."""


def group_of(work: Work) -> Hashable:
    """Return a key that is equal for works that one call of the model can answer together."""
    if isinstance(work, Draw):
        return "draw", work.sampling.model_dump_json(), work.drawing.model_dump_json()
    if isinstance(work, Decode):
        return "decode", work.drawing.model_dump_json()
    if isinstance(work, Encode):
        return "encode", work.selection, work.tokens, work.seed
    if isinstance(work, Describe):
        return "describe", work.max_tokens
    return "ask", work.max_tokens


def rows_of(work: Work) -> int:
    """Return how many images or texts a work computes."""
    if isinstance(work, Draw | Decode):
        return len(work.seeds)
    if isinstance(work, Ask):
        asked = [*(question for question, _ in work.earlier), work.question]
        return max(1, sum(isinstance(piece, np.ndarray) for one in asked for piece in one))
    return len(work.images) if isinstance(work, Encode) else 1


def compute(model: LaVIT, works: Sequence[Any], report: Report, *, max_rows: int) -> list[Any]:
    """Return the result of each work of one group: images, `Tokens` an image, or `Text`.

    At most `max_rows` codes are drawn at a time. `drawing.batch_size` says the same of pixels.
    Raises UsageError and InputError as the model's methods do.
    """
    if isinstance(works[0], Draw):
        return _draw(model, works, report, max_rows)
    if isinstance(works[0], Decode):
        codes = [one for work in works for one in work.codes]
        return _split(works, model.decode(codes, _seeds(works), settings=works[0].drawing))
    if isinstance(works[0], Encode):
        return _encode(model, works)
    if isinstance(works[0], Describe):
        texts = model.caption([work.image for work in works], max_tokens=works[0].max_tokens)
        return [_text(model, text, (), works[0].max_tokens) for text in texts]
    return _ask(model, works)


def _draw(model: LaVIT, works: Sequence[Draw], report: Report, max_rows: int) -> list[Any]:
    owners = [place for place, work in enumerate(works) for _ in work.seeds]
    prompts = [list(works[owner].prompt) for owner in owners]
    first = works[0]
    steps = model.generate_steps(
        prompts, _seeds(works), sampling=first.sampling, drawing=first.drawing, batch_size=max_rows
    )
    for step in steps:
        if step.images is not None:
            return _split(works, step.images)
        # Several images of one work are in the same batch: they are one step.
        for owner in sorted({owners[index] for index in step.indices}):
            report(owner, Step(stage=step.stage, step=step.step, num_steps=step.num_steps))
    raise AssertionError("generate_steps ended without images")


def _encode(model: LaVIT, works: Sequence[Encode]) -> list[Any]:
    first, images = works[0], [image for work in works for image in work.images]
    made = model.encode(images, selection=first.selection, seed=first.seed, tokens=first.tokens)
    rows = zip(made.codes, made.keep_mask, strict=True)
    return _split(works, [Tokens(codes=codes, kept=np.flatnonzero(mask)) for codes, mask in rows])


def _ask(model: LaVIT, works: Sequence[Ask]) -> list[Any]:
    texts = model.answer(
        None,
        [work.question for work in works],
        max_tokens=works[0].max_tokens,
        earlier=[work.earlier for work in works],
    )
    said = ([*(part for pair in work.earlier for part in pair), work.question] for work in works)
    asked = [[text for one in own for text in ([one] if isinstance(one, str) else one) if isinstance(text, str)]
             for own in said]  # fmt: skip
    return [_text(model, text, before, works[0].max_tokens) for text, before in zip(texts, asked, strict=True)]


def _text(model: LaVIT, text: str, asked: Sequence[str], max_tokens: int) -> Text:
    # The end token of each is not counted.
    counts = model.count_tokens([text, *asked]) - 1
    # Text that no tokenizer made may take more tokens than were written.
    return Text(text=text, num_tokens=min(int(counts[0]), max_tokens), num_asked=int(counts[1:].sum()))


def _seeds(works: Sequence[Draw] | Sequence[Decode]) -> list[int]:
    return [seed for work in works for seed in work.seeds]


def _split(works: Sequence[Work], results: Sequence[Any]) -> list[Any]:
    """Return the results of each work, from those of all works one after another."""
    remaining = iter(results)
    return [[next(remaining) for _ in range(rows_of(work))] for work in works]

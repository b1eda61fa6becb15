"""Captions of images and answers to questions about them, written greedily or by beam search."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from lavit_core.errors import UsageError
from lavit_core.progress import warn
from torch import Tensor

from lavit_pretrain.beam_search import Beams, write_with_beams
from lavit_pretrain.chat import ChatTemplate
from lavit_pretrain.conversation import Part, QuestionPieces, conversation_parts, image_first, text_of
from lavit_pretrain.decoding import DecodingBatch
from lavit_pretrain.encoded_images import EncodedImages
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.sequence import (
    MAX_QUESTION_WORDS,
    Prompt,
    TokenizedPrompt,
    blind_span,
    is_cut,
    join_prompts,
    reading_prompts,
    tokenize_image,
)

CUT = f"questions of more than {MAX_QUESTION_WORDS} words are cut there, as in the paper; ask a shorter one"

_say_once = functools.lru_cache(warn)

BATCH_ROWS = 128
"""Texts written at the same time."""


def caption(
    llm: LanguageModel, images: EncodedImages, *, max_tokens: int = 36, beams: Beams | None = None
) -> list[str]:
    """Return a caption of each image (paper: no prompt, the image alone; 36 tokens at most)."""
    nothing = [np.empty(0, np.int64)] * len(images)
    prompts = reading_prompts(llm.vocabulary, images, nothing, blind_eos=llm.blind_eos)
    return _complete(llm, prompts, max_tokens, beams)


def answer(
    llm: LanguageModel,
    images: EncodedImages | None,
    questions: Sequence[Prompt],
    *,
    earlier: Sequence[Sequence[tuple[Prompt, str]]] | None = None,
    max_tokens: int = 10,
    beams: Beams | None = None,
    chat: bool = False,
) -> list[str]:
    """Return the answer to question i after the questions and answers `earlier[i]` if given.

    Each conversation begins with its image of `images`, or has its images (codes, or continuous rows) in its questions,
    or has none. `chat` asks by the model's own chat template. Raises UsageError if it has none, and for an image of
    `images` before questions with images.
    """
    if images is not None and len(images) != len(questions):
        raise UsageError(f"{len(questions)} questions but {len(images)} images, expected one image a question")
    if earlier is not None and len(earlier) != len(questions):
        raise UsageError(f"{len(questions)} questions but {len(earlier)} conversations before them, expected one each")
    template = ChatTemplate(llm.codec) if chat else None
    first = images.each() if images is not None and llm.blind_eos is None else [None] * len(questions)
    prompts = [
        conversation_prompt(llm, template, shown, turns, question)
        for shown, turns, question in zip(first, earlier or [()] * len(questions), questions, strict=True)
    ]
    return _complete(llm, prompts, max_tokens, beams)


def conversation_prompt(
    llm: LanguageModel,
    chat: ChatTemplate | None,
    image: np.ndarray | None,
    earlier: Sequence[tuple[Prompt, str]],
    question: Prompt,
) -> TokenizedPrompt:
    """Return a conversation up to where its last reply begins; `image` stands before everything that is said."""
    shown: list[np.ndarray] = []
    asked: list[QuestionPieces] = [_numbered(one, shown) for one in (*(turn[0] for turn in earlier), question)]
    if image is not None or (llm.blind_eos is not None and not shown):
        # A model without images reads its end token wherever one would stand, and before a conversation without any.
        if shown:
            raise UsageError("questions: found images in them and `images` too, expected one of both")
        asked, shown = image_first(asked), [] if image is None else [image]
    if chat is None and any(is_cut(text_of(one)) for one in asked):
        _say_once(CUT)
    parts = conversation_parts(llm.codec, chat, asked, [reply for _, reply in earlier])
    return join_prompts([_tokenized(llm, part, shown) for part in parts])


def _tokenized(llm: LanguageModel, part: Part, shown: Sequence[np.ndarray]) -> TokenizedPrompt:
    if part.image is None:
        return TokenizedPrompt(ids=part.ids)
    if llm.blind_eos is not None:
        return TokenizedPrompt(ids=blind_span(llm.blind_eos))
    return tokenize_image(llm.vocabulary, shown[part.image])


def _numbered(asked: Prompt, shown: list[np.ndarray]) -> QuestionPieces:
    """Return a question with the numbers of its images, which are added to `shown`."""
    if isinstance(asked, str):
        return asked
    pieces: list[str | int] = []
    for piece in asked:
        if isinstance(piece, str):
            pieces.append(piece)
        else:
            pieces.append(len(shown))
            shown.append(piece)
    return pieces


def _complete(
    llm: LanguageModel, prompts: Sequence[TokenizedPrompt], max_tokens: int, beams: Beams | None
) -> list[str]:
    """Return what is written after each prompt."""
    order = np.argsort([-len(prompt) for prompt in prompts], kind="stable")
    written: dict[int, str] = {}
    for start in range(0, len(order), BATCH_ROWS):
        places = order[start : start + BATCH_ROWS]
        with torch.inference_mode():
            rows = [llm.embed_prompt(prompts[place]) for place in places]
        check_room(llm, max(map(len, rows)), max_tokens)
        texts = (
            write_greedily(llm, rows, max_tokens) if beams is None else write_with_beams(llm, rows, max_tokens, beams)
        )
        written.update(zip(places.tolist(), texts, strict=True))
    return [written[place] for place in range(len(prompts))]


def check_room(llm: LanguageModel, longest: int, max_tokens: int) -> None:
    """Raise UsageError for more tokens than the language model has positions for; the last one written is not read."""
    room = getattr(llm.llm.config.get_text_config(), "max_position_embeddings", None)
    if room is not None and longest + max_tokens - 1 > room:
        raise UsageError(
            f"max_tokens: {max_tokens} after {longest} tokens of image and question, more than the language model's "
            f"{room} positions; lower it"
        )


@torch.inference_mode()
def write_greedily(llm: LanguageModel, prompts: Sequence[Tensor], max_tokens: int) -> list[str]:
    """Return the likeliest continuation in text of each prompt [n, H]; visual ids are never written."""
    rows = DecodingBatch(llm, prompts, max_tokens)
    text_head = llm.head_of_ids(0, llm.vocabulary.text_vocab)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=llm.device)
    written = []
    hidden = rows.start()
    for step in range(max_tokens):
        next_ids = text_head.logits(hidden).argmax(-1)
        written.append(next_ids)
        ended |= next_ids == llm.codec.eos
        if step + 1 == max_tokens or ((not ended.is_cuda or step % 16 == 15) and bool(ended.all())):
            break
        hidden = rows.extend(next_ids)
    return [llm.codec.decode(row) for row in torch.stack(written, dim=1).tolist()]

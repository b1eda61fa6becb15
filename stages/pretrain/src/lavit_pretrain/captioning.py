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
from lavit_pretrain.decoding import DecodingBatch
from lavit_pretrain.encoded_images import EncodedImages
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.sequence import MAX_QUESTION_WORDS, is_cut, reading_prompts

CUT = f"questions of more than {MAX_QUESTION_WORDS} words are cut there, as in the paper; ask a shorter one"

_say_once = functools.lru_cache(warn)

BATCH_ROWS = 128
"""Texts written at the same time."""


def caption(
    llm: LanguageModel, images: EncodedImages, *, max_tokens: int = 36, beams: Beams | None = None
) -> list[str]:
    """Return a caption of each image (paper: no prompt, the image alone; 36 tokens at most)."""
    empty = np.empty(0, np.int64)
    return _complete(llm, images, [empty] * len(images), max_tokens, beams)


def answer(
    llm: LanguageModel,
    images: EncodedImages | None,
    questions: Sequence[str],
    *,
    earlier: Sequence[Sequence[tuple[str, str]]] | None = None,
    max_tokens: int = 10,
    beams: Beams | None = None,
    chat: bool = False,
) -> list[str]:
    """Return the answer to question i about image i, after the questions and answers `earlier[i]` if given; without
    images the model reads the question alone.

    `chat` asks by the model's own chat template. Raises UsageError if it has none.
    """
    if images is not None and len(images) != len(questions):
        raise UsageError(f"{len(questions)} questions but {len(images)} images, expected one image a question")
    if earlier is not None and len(earlier) != len(questions):
        raise UsageError(f"{len(questions)} questions but {len(earlier)} conversations before them, expected one each")
    turns = earlier or [()] * len(questions)
    if chat:
        template = ChatTemplate(llm.codec)
        asked = [template.prompt(*one) for one in zip(turns, questions, strict=True)]
        return _complete(llm, images, [after for _, after in asked], max_tokens, beams, [head for head, _ in asked])
    if any(map(is_cut, questions)) or any(is_cut(turn[0]) for own in turns for turn in own):
        _say_once(CUT)
    prompts = [llm.codec.prompt_after(*one) for one in zip(turns, questions, strict=True)]
    return _complete(llm, images, prompts, max_tokens, beams)


def _complete(
    llm: LanguageModel,
    images: EncodedImages | None,
    prompts: Sequence[np.ndarray],
    max_tokens: int,
    beams: Beams | None,
    before: Sequence[np.ndarray] | None = None,
) -> list[str]:
    """Return what is written after `before [IMG] image [/IMG] prompt` of each prompt."""
    counts = images.counts if images is not None else np.zeros(len(prompts), np.int64)
    lengths = counts + np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    written: dict[int, str] = {}
    for start in range(0, len(order), BATCH_ROWS):
        places = order[start : start + BATCH_ROWS]
        shown = images.take(places) if images is not None else None
        asked = [prompts[place] for place in places]
        heads = None if before is None else [before[place] for place in places]
        read = reading_prompts(llm.vocabulary, shown, asked, before=heads, blind_eos=llm.blind_eos)
        with torch.inference_mode():
            rows = [llm.embed_prompt(prompt) for prompt in read]
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
    text_head = llm.head.rows(0, llm.vocabulary.text_vocab)
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

"""Beam search over text, by transformers' own `generate`: how the released scripts decode answers and captions."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lavit_pretrain.decoding import pad_left
from lavit_pretrain.language_model import LanguageModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beams:
    """Settings of a beam search."""

    num_beams: int
    """Hypotheses kept."""
    min_tokens: int = 0
    """The end token can't come before so many others."""
    length_penalty: float = 1.0
    """A finished hypothesis is ranked by log p / length ** length_penalty."""
    early_stopping: bool = False
    """End as soon as `num_beams` hypotheses are finished."""


ANSWERS = Beams(num_beams=5, min_tokens=2, length_penalty=0.0, early_stopping=True)
"""Answers as the release decodes them, of at most 10 tokens. Source: `predict_answers`."""

CAPTIONS = Beams(num_beams=2, min_tokens=8, length_penalty=1.0)
"""Captions as the release decodes them, of at most 36 tokens. Source: `generate`."""


@torch.inference_mode()
def write_with_beams(llm: LanguageModel, prompts: Sequence[Tensor], max_tokens: int, beams: Beams) -> list[str]:
    """Return the continuation in text of each prompt's embeddings [n, H]; visual ids are never written."""
    inputs, mask_RL = pad_left(prompts)
    vocabulary = llm.vocabulary
    # transformers gives `generate` a type that mypy takes for a tensor.
    written = cast(Any, llm.llm).generate(
        inputs_embeds=inputs,
        attention_mask=mask_RL.long(),
        do_sample=False,
        num_beams=beams.num_beams,
        min_new_tokens=beams.min_tokens,
        max_new_tokens=max_tokens,
        length_penalty=beams.length_penalty,
        early_stopping=beams.early_stopping,
        suppress_tokens=list(range(vocabulary.text_vocab, vocabulary.total)),
        eos_token_id=llm.codec.eos,
        pad_token_id=llm.codec.eos,
    )
    return [llm.codec.decode(row) for row in written.tolist()]

"""Text tokenizers: one trained on the data's own words for a new language model, or the one that came with `--llm`."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.errors import InputError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lavit_pretrain.sequence import question_prompt, question_text, text_continuation

EOS, PAD = "<eos>", "<pad>"
MIN_VOCAB = 258
"""256 bytes, so that no text is ever unknown, and the two special tokens."""

ADDED_IDS = 8
"""Ids that a tokenizer may add to a text's own. An ASCII text, which no normaliser lengthens, has one for each of its
characters at most: whether it fits is then known without tokenising it."""


def train_text_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """Return a byte-level BPE tokenizer of at most `vocab_size` ids; equal texts give equal ids.

    Merges end where no pair occurs twice, so a small corpus gives a small vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size, MIN_VOCAB),
        min_frequency=2,
        special_tokens=[PAD, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD)


def load_text_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a transformers directory. Raises InputError if it is missing or has no end token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: no text tokenizer here ({reason}); give a transformers directory") from None
    if tokenizer.eos_token_id is None:
        raise InputError(f"{folder}: this text tokenizer has no eos token, and documents must end with one")
    return tokenizer


def unknown_words(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """Return the words of `text` that a vocabulary learned by `train_text_tokenizer` has no id for, or that any other
    one reads as its unknown token. The former holds all but the rarest words that it was trained on."""
    words = dict.fromkeys(re.findall(r"\w+", text))
    forms = {
        word: [tokenizer(form, add_special_tokens=False)["input_ids"] for form in (f" {word}", word)] for word in words
    }
    if (tokenizer.eos_token, tokenizer.pad_token) == (EOS, PAD):
        return [word for word in words if min(map(len, forms[word])) > 1]
    unknown = tokenizer.unk_token_id
    return [word for word in words if unknown is not None and unknown in forms[word][0]]


class TextCodec:
    """Text to ids as training and inference share it: no BOS, and brackets written in a text stay plain text.

    Source: the released code tokenises with add_special_tokens=False everywhere.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int = 1 << 30) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.eos = int(tokenizer.eos_token_id)
        self.encode = lru_cache(maxsize=1 << 16)(self._encode)
        self.question = lru_cache(maxsize=1 << 16)(self._question)

    def _encode(self, text: str) -> np.ndarray:
        return np.asarray(self._ids(text)[: self.max_tokens], dtype=np.int64)

    def _question(self, question: str, answer: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of the prompt and of the answer with its end token (empty when no answer is given).

        The answer's ids continue the prompt's in the whole text, so a prompt alone meets what was trained.
        """
        prompt = question_prompt(question)
        prompt_ids = self.encode(prompt)
        if answer is None:
            return prompt_ids, np.empty(0, dtype=np.int64)
        whole = self.encode(question_text(question, answer))
        joined = len(prompt_ids) <= len(whole) and bool((whole[: len(prompt_ids)] == prompt_ids).all())
        answer_ids = whole[len(prompt_ids) :] if joined else self.encode(answer)
        return prompt_ids, text_continuation(answer_ids, self.eos)

    def texts_fit(self, whole: Sequence[str]) -> list[bool]:
        """Return whether each text has at most `max_tokens` ids."""
        unsure = [text for text in whole if not text.isascii() or len(text) + ADDED_IDS > self.max_tokens]
        too_long = {text for text, length in zip(unsure, self.lengths(unsure), strict=True) if length > self.max_tokens}
        return [text not in too_long for text in whole]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of ids of each text, uncut."""
        return [len(ids) for ids in self._ids(list(texts))] if texts else []

    def _ids(self, text: str | list[str]) -> Any:
        """Return a text's ids, or the ids of each text of a list: thousands at a time are tokenised in parallel."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def decode(self, ids: list[int]) -> str:
        """Return text, cut at the first end token, without special tokens and surrounding blanks."""
        if self.eos in ids:
            ids = ids[: ids.index(self.eos)]
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

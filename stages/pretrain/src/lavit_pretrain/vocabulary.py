"""The only place that defines ids: text ids [0, V), `[IMG]` = V, `[/IMG]` = V + 1, code c = V + 2 + c.

Source: arXiv 2309.04669, released weights (V = 32,000, K = 16,384, so 48,386 rows). Codes have ids in the language
model only; the text tokenizer knows the two brackets and no code, so decoding text can never produce one.
"""

import dataclasses

import numpy as np
from lavit_core.errors import InputError
from transformers import PreTrainedTokenizerBase

IMG, END_IMG = "[IMG]", "[/IMG]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Layout of the ids: `text_vocab` = V text ids, then the brackets, then `codebook_size` = K codes."""

    text_vocab: int
    codebook_size: int

    @property
    def img(self) -> int:
        """Id of `[IMG]`, which opens every image."""
        return self.text_vocab

    @property
    def end_img(self) -> int:
        """Id of `[/IMG]`, which closes every image."""
        return self.text_vocab + 1

    @property
    def first_code(self) -> int:
        """Id of code 0."""
        return self.text_vocab + 2

    @property
    def total(self) -> int:
        """Rows of the embedding table and of the head."""
        return self.text_vocab + 2 + self.codebook_size

    def to_ids(self, codes: np.ndarray) -> np.ndarray:
        """Return language-model ids (int64) of codebook indices."""
        return codes.astype(np.int64) + self.first_code

    def to_codes(self, ids: np.ndarray) -> np.ndarray:
        """Return codebook indices (int64) of language-model ids."""
        return ids.astype(np.int64) - self.first_code


def register(tokenizer: PreTrainedTokenizerBase) -> int:
    """Make `[IMG]` and `[/IMG]` special tokens of a text tokenizer; return V. Raises InputError if they don't fit."""
    known = tokenizer.get_added_vocab()
    if IMG not in known:
        tokenizer.add_special_tokens({"additional_special_tokens": [IMG, END_IMG]}, replace_extra_special_tokens=False)
    first, second = (tokenizer.get_added_vocab()[token] for token in (IMG, END_IMG))
    if second != first + 1 or len(tokenizer) != second + 1:
        raise InputError(
            f"text tokenizer: {IMG} is id {first}, {END_IMG} id {second} of {len(tokenizer)}, expected the last two; "
            "give a tokenizer without these tokens"
        )
    return first

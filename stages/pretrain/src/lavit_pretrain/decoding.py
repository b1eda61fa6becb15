"""One padded batch of sequences and its cache: sampling codes, writing text and scoring continuations share it.

Padding is on the left, masked, and positions start at each row's own first token: a row's result does not depend on its
neighbours. Letters: R rows, L longest prompt, N tokens appended at once, H hidden width.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from lavit_pretrain.attention import accepted
from lavit_pretrain.language_model import LanguageModel


def pad_left(prompts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return input embeddings [R, L, H] of prompts [n, H], padded on the left, and a mask bool [R, L] of the tokens."""
    longest = max(map(len, prompts))
    inputs = torch.stack([torch.nn.functional.pad(prompt, (0, 0, longest - len(prompt), 0)) for prompt in prompts])
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=inputs.device)
    return inputs, torch.arange(longest, device=inputs.device) >= longest - lengths[:, None]


class DecodingBatch:
    """R sequences being continued."""

    def __init__(self, llm: LanguageModel, prompts: Sequence[Tensor], max_new: int = 0) -> None:
        """Take the prompts' input embeddings, each [n, H]; room for `max_new` single tokens after each."""
        self.llm = llm
        self._inputs, self._mask_RL = pad_left(prompts)
        self._lengths = self._mask_RL.sum(1)
        # A cache of fixed size keeps shapes constant on a GPU; on a CPU it would only be attended to in vain.
        fixed = max_new > 0 and llm.device.type == "cuda"
        longest = self._mask_RL.shape[1] + max_new
        config = llm.llm.config
        self._cache = StaticCache(config=config, max_cache_len=longest) if fixed else DynamicCache(config=config)

    def start(self) -> Tensor:
        """Return the hidden states [R, H] that follow the prompts."""
        return self._forward(self._inputs, self._mask_RL.cumsum(1).sub(1).clamp_min(0))[:, -1]

    def extend(self, ids_R: Tensor) -> Tensor:
        """Append one token to each row and return the hidden states [R, H] that follow."""
        return self.append(ids_R[:, None], self._mask_RL.new_ones(len(ids_R), 1))[:, -1]

    def append(self, ids_RN: Tensor, mask_RN: Tensor) -> Tensor:
        """Append tokens, padded on the right where the mask is False, and return the hidden states [R, N, H] at them.

        A padded batch takes no more tokens.
        """
        positions = self._lengths[:, None] + torch.arange(ids_RN.shape[1], device=ids_RN.device)
        self._mask_RL = torch.cat([self._mask_RL, mask_RN], 1)
        self._lengths = self._lengths + mask_RN.sum(1)
        return self._forward(self.llm.embed(ids_RN.flatten()).unflatten(0, ids_RN.shape), positions)

    def forget(self, rows_R: Tensor) -> None:
        """Empty the rows where `rows_R` (bool) is True: what is appended next is the first token of such a row."""
        self._mask_RL = self._mask_RL & ~rows_R[:, None]
        self._lengths = self._lengths.masked_fill(rows_R, 0)

    def repeated(self, count: int) -> "DecodingBatch":
        """Return a batch of `count` copies of one started row; this one stays as it is."""
        batch = copy.copy(self)
        batch._cache = copy.deepcopy(self._cache)
        batch._cache.batch_repeat_interleave(count)
        batch._mask_RL, batch._lengths = self._mask_RL.expand(count, -1), self._lengths.expand(count)
        return batch

    def _forward(self, inputs_RNH: Tensor, positions_RN: Tensor) -> Tensor:
        hidden: Tensor = self.llm.decoder(
            inputs_embeds=inputs_RNH,
            attention_mask=self._mask_RL,
            past_key_values=self._cache,
            use_cache=True,
            **accepted(self.llm.decoder, position_ids=positions_RN),
        ).last_hidden_state
        return hidden

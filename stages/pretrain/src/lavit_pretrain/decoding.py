"""One padded batch of sequences and its cache: sampling codes, writing text and scoring continuations share it.

Padding is on the left, masked, and positions start at each row's own first token: a row's result does not depend on its
neighbours. Letters: R rows, L longest prompt, N tokens appended at once, H hidden width.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from lavit_pretrain.attention import accepted
from lavit_pretrain.growing_cache import growing_cache, only_grows
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.shared_attention import Beginning, shares_beginning


def pad_left(prompts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return input embeddings [R, L, H] of prompts [n, H], padded on the left, and a mask bool [R, L] of the tokens."""
    longest = max(map(len, prompts))
    inputs = torch.stack([torch.nn.functional.pad(prompt, (0, 0, longest - len(prompt), 0)) for prompt in prompts])
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=inputs.device)
    return inputs, torch.arange(longest, device=inputs.device) >= longest - lengths[:, None]


def distinct_prompts(prompts: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
    """Return the prompts [n, H] that differ from all before them, and the place of each prompt among these."""
    found: list[Tensor] = []
    places = []
    for prompt in prompts:
        same = (i for i, one in enumerate(found) if one is prompt or (len(one) == len(prompt) and one.equal(prompt)))
        place = next(same, len(found))
        if place == len(found):
            found.append(prompt)
        places.append(place)
    return found, places


def shared_prefix(prompts: Sequence[Tensor]) -> tuple[int, list[bool]]:
    """Return the length of a beginning that is worth reading once, and which prompts [n, H] begin with it.

    Each of these has a token after it. Without one, the length is 0 and no prompt begins with it.
    """
    longest = max(prompts, key=len)
    common = [min(_equal_rows(prompt, longest), len(prompt) - 1) for prompt in prompts]

    def cost(length: int) -> int:
        """Return how many rows are read, padding included."""
        tails = [len(one) - (length if own >= length else 0) for one, own in zip(prompts, common, strict=True)]
        return length + len(tails) * max(tails)

    shared = {length for length in common if sum(own >= length for own in common) > 1}
    best = min([0, *sorted(shared)], key=cost)
    return best, [0 < best <= own for own in common]


def _equal_rows(one: Tensor, other: Tensor) -> int:
    """Return how many rows from the first on are equal."""
    length = min(len(one), len(other))
    equal = (one[:length] == other[:length]).all(dim=1).cumprod(0)
    return int(equal.sum())


class DecodingBatch:
    """R sequences being continued."""

    def __init__(self, llm: LanguageModel, prompts: Sequence[Tensor], max_new: int = 0) -> None:
        """Take the prompts' input embeddings, each [n, H]; room for `max_new` single tokens after each."""
        self.llm, self._prompts = llm, prompts
        config = llm.llm.config
        # A cache of fixed size keeps shapes constant on a GPU; on a CPU it would only be attended to in vain.
        fixed = max_new > 0 and llm.device.type == "cuda"
        longest = max(map(len, prompts)) + max_new
        self._cache = StaticCache(config=config, max_cache_len=longest) if fixed else growing_cache(config)
        self._mask_RL = torch.zeros(len(prompts), 0, dtype=torch.bool, device=llm.device)
        self._lengths = self._mask_RL.sum(1)
        self._beginning: Beginning | None = None

    def start(self) -> Tensor:
        """Return the hidden states [R, H] that follow the prompts.

        Equal prompts are read once, and so is what several begin with, where the cache allows it.
        """
        if not (isinstance(self._cache, DynamicCache) and only_grows(self._cache)):
            return self._read(self._prompts)
        prompts, places = distinct_prompts(self._prompts)
        # A model that is told no positions counts the padding between a prefix and what follows it.
        told = bool(accepted(self.llm.decoder, position_ids=None))
        length, begins = shared_prefix(prompts) if told else (0, [])
        if length:
            first = prompts[begins.index(True)]
            self._empty_rows(1)
            self._read([first[:length]])
            begins_U = torch.tensor(begins, device=first.device)
            self._mask_RL, self._lengths = begins_U[:, None].expand(-1, length), begins_U * length
            tails = [one[length:] if own else one for one, own in zip(prompts, begins, strict=True)]
            if shares_beginning(self.llm.decoder, length, max(map(len, tails))):
                read: Any = self._cache.layers
                self._beginning = Beginning([(one.keys[0], one.values[0]) for one in read], begins_U)
                self._cache, self._mask_RL = growing_cache(self.llm.llm.config), self._mask_RL[:, :0]
            else:
                self._cache.batch_select_indices(begins_U.new_zeros(len(prompts), dtype=torch.long))
            hidden = self._read(tails)
        else:
            self._empty_rows(len(prompts))
            hidden = self._read(prompts)
        if len(prompts) == len(places):
            return hidden
        rows = torch.tensor(places, device=hidden.device)
        self.keep(rows)
        return hidden[rows]

    def keep(self, rows: Tensor) -> None:
        """Keep rows by their indices, in this order; one may be named more than once."""
        self._cache.batch_select_indices(rows)
        self._mask_RL, self._lengths = self._mask_RL[rows], self._lengths[rows]
        if self._beginning is not None:
            self._beginning = self._beginning.of_rows(self._beginning.begins_R[rows])

    def _empty_rows(self, count: int) -> None:
        """Hold `count` rows; nothing has been read yet."""
        self._mask_RL, self._lengths = self._mask_RL.new_zeros(count, 0), self._lengths.new_zeros(count)

    def _read(self, prompts: Sequence[Tensor]) -> Tensor:
        """Append input embeddings [n, H] to each row, padded on the left, and return the hidden states that follow."""
        inputs, mask = pad_left(prompts)
        positions = self._lengths[:, None] + mask.cumsum(1).sub(1).clamp_min(0)
        self._mask_RL = torch.cat([self._mask_RL, mask], 1)
        self._lengths = self._lengths + mask.sum(1)
        return self._forward(inputs, positions)[:, -1]

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
        if self._beginning is not None:
            self._beginning = self._beginning.of_rows(self._beginning.begins_R & ~rows_R)

    def repeated(self, count: int) -> "DecodingBatch":
        """Return a batch of `count` copies of one started row; this one stays as it is."""
        batch = copy.copy(self)
        batch._cache = copy.deepcopy(self._cache)
        batch._cache.batch_repeat_interleave(count)
        batch._mask_RL, batch._lengths = self._mask_RL.expand(count, -1), self._lengths.expand(count)
        if self._beginning is not None:
            batch._beginning = self._beginning.of_rows(self._beginning.begins_R.expand(count))
        return batch

    def _forward(self, inputs_RNH: Tensor, positions_RN: Tensor) -> Tensor:
        told: dict[str, Any] = {"attention_mask": self._mask_RL}
        if self._beginning is not None:
            mask = self._beginning.mask(self._mask_RL, inputs_RNH.shape[1])
            told = {"attention_mask": mask, "beginning": self._beginning}
        hidden: Tensor = self.llm.decoder(
            inputs_embeds=inputs_RNH,
            past_key_values=self._cache,
            use_cache=True,
            **told,
            **accepted(self.llm.decoder, position_ids=positions_RN),
        ).last_hidden_state
        return hidden

"""Left-padded rows and their cache: what sampling codes and writing text share.

Padding is masked and positions start at each row's own first token: a row's result does not depend on its neighbours.
Letters: R rows, L longest prompt, H hidden width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from lavit_pretrain.language_model import LanguageModel


class DecodingBatch:
    """R prompts being continued token by token."""

    def __init__(self, llm: LanguageModel, prompts: Sequence[Tensor], max_new: int) -> None:
        """Take the prompts' input embeddings, each [n, H]; room for `max_new` tokens after each."""
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=llm.device)
        longest = int(lengths.max())
        self.llm, self.max_new, self.used = llm, max_new, longest
        self.mask_RL = torch.ones(len(prompts), longest + max_new, dtype=torch.bool, device=llm.device)
        self.mask_RL[:, :longest] = torch.arange(longest, device=llm.device) >= longest - lengths[:, None]
        self._inputs = torch.stack(
            [torch.nn.functional.pad(prompt, (0, 0, longest - len(prompt), 0)) for prompt in prompts]
        )
        self._positions = (torch.arange(longest, device=llm.device) - (longest - lengths[:, None])).clamp_min(0)
        self._lengths = lengths
        # A cache of fixed size keeps shapes constant on a GPU; on a CPU it would only be attended to in vain.
        on_gpu = llm.device.type == "cuda"
        self._cache = StaticCache(config=llm.llm.config, max_cache_len=longest + max_new) if on_gpu else DynamicCache()

    def start(self) -> Tensor:
        """Return the hidden states [R, H] that follow the prompts."""
        return self._forward(self._inputs, self._positions)

    def extend(self, ids_R: Tensor) -> Tensor:
        """Append one token to each row and return the hidden states [R, H] that follow."""
        inputs = self.llm.embed(ids_R)[:, None]
        positions = (self._lengths + (self.used - self._positions.shape[1]))[:, None]
        self.used += 1
        return self._forward(inputs, positions)

    def _forward(self, inputs_RLH: Tensor, positions_RL: Tensor) -> Tensor:
        hidden: Tensor = self.llm.decoder(
            inputs_embeds=inputs_RLH,
            attention_mask=self.mask_RL[:, : self.used],
            position_ids=positions_RL,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return hidden[:, -1]

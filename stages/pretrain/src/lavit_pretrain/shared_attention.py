"""Attention of many rows to a beginning that they share: its keys and values are held once and read once a step.

transformers' attention wants a copy for every row, and reads them all: with 64 prompts that begin with the same image,
in both branches of guidance, these were most of a step. Here all rows' queries meet the shared keys in one product.

Letters: R rows, H heads, G heads of keys, N tokens of a step, P shared tokens, L other tokens, E head width.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SHARED = "lavit_shared"
"""Name under which `model.set_attn_implementation` finds it."""

SHORTEST = 32
"""Tokens from which on a beginning is held once: scores are written out here, which a short one does not repay."""


@dataclasses.dataclass(frozen=True)
class Beginning:
    """Keys and values of a beginning, and the rows that have it."""

    layers: Sequence[tuple[Tensor, Tensor]]
    """Keys and values [G, P, E] of every layer."""
    begins_R: Tensor
    """bool: the rows that begin so."""

    def of_rows(self, begins_R: Tensor) -> "Beginning":
        """Return the same for other rows."""
        return dataclasses.replace(self, begins_R=begins_R)

    def mask(self, mask_RL: Tensor, count: int) -> Tensor:
        """Return what the last `count` tokens of each row see, bool [R, 1, N, P + L]: no later tokens, no padding."""
        length = mask_RL.shape[1]
        places_L = torch.arange(length, device=mask_RL.device)
        own_RNL = mask_RL[:, None] & (places_L <= places_L[length - count :, None])
        shared_RNP = self.begins_R[:, None, None].expand(-1, count, self.layers[0][0].shape[1])
        return torch.cat([shared_RNP, own_RNL], -1)[:, None]


def use_shared(model: PreTrainedModel) -> None:
    """Switch a model to transformers' fast attention, which then also takes `beginning`."""
    AttentionInterface.register(SHARED, shared_forward)
    AttentionMaskInterface.register(SHARED, sdpa_mask)
    model.set_attn_implementation(SHARED)


def shares_beginning(decoder: nn.Module, length: int, longest: int) -> bool:
    """Return whether a decoder was switched to this attention, and it pays for a beginning of `length` tokens and
    `longest` of a row's own."""
    switched: bool = decoder.config._attn_implementation == SHARED  # type: ignore[union-attr]
    return switched and length >= max(SHORTEST, longest)


def shared_forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, beginning: Beginning | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Return attention [R, N, H, E] of queries [R, H, N, E] to the beginning and to keys and values [R, G, L, E]."""
    if beginning is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    assert attention_mask is not None, "rows with a beginning need a mask"
    heads, count = query.shape[1], query.shape[2]
    first_k, first_v = (x.repeat_interleave(heads // len(x), 0) for x in beginning.layers[module.layer_idx])
    if key.shape[1] != heads:
        key, value = (x.repeat_interleave(heads // x.shape[1], 1) for x in (key, value))
    # In fp32 as the fast attention has it: scores of tens that are rounded to bf16 shift the shares by percents.
    query = query.float() * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    by_head_HME = query.transpose(0, 1).flatten(1, 2)  # rows and tokens together
    shared_RHNP = (by_head_HME @ first_k.float().transpose(1, 2)).unflatten(1, (-1, count)).transpose(0, 1)
    scores = torch.cat([shared_RHNP, query @ key.float().transpose(2, 3)], -1)
    # Padding sees nothing; it gets a mean of everything, which nobody reads, where -inf would give NaN.
    scores = scores.masked_fill(~attention_mask, torch.finfo(torch.float32).min)
    shares = scores.softmax(-1).to(value.dtype)
    of_first, of_own = shares.split([first_k.shape[1], key.shape[2]], -1)
    out_RHNE = (of_first.transpose(0, 1).flatten(1, 2) @ first_v).unflatten(1, (-1, count)).transpose(0, 1)
    return (out_RHNE + of_own @ value).transpose(1, 2).contiguous(), None

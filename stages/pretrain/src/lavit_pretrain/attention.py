"""Attention over packed documents for any transformers language model: no document sees another, nothing is padded.

The model is called with one row of tokens [1, T] and `cu_seq_lens_q` [B + 1], the documents' bounds.
"""

from typing import Any

import torch
from lavit_trainkit.packed import packed_attention
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

PACKED = "lavit_packed"
"""Name under which `model.set_attn_implementation` finds it."""

DROPOUT_ATTRIBUTES = ("attention_dropout", "activation_dropout", "hidden_dropout", "dropout", "layerdrop")
"""Probabilities that transformers' modules hand to `torch.nn.functional.dropout` or to an attention function."""


def packed_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return causal attention [1, T, H, E] within documents; query [1, H, T, E], key and value with H heads or less.

    `sliding_window` limits a token to the last so many of its document, itself included.
    """
    assert cu_seq_lens_q is not None, "packed attention needs cu_seq_lens_q"
    assert dropout == 0.0, "packed attention has no dropout; see disable_dropout"
    extras = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    assert not extras, f"packed attention does not apply {extras[0]}"
    heads, width = query.shape[1], query.shape[-1]
    if key.shape[1] != heads:
        key, value = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (key, value))
    if scaling is not None and abs(scaling * width**0.5 - 1) > 1e-6:
        query = query * (scaling * width**0.5)
    q_THE, k_THE, v_THE = (x[0].transpose(0, 1) for x in (query, key, value))
    bounds = {"cu_q": cu_seq_lens_q, "cu_k": cu_seq_lens_q}
    out_THE = packed_attention(q_THE, k_THE, v_THE, **bounds, causal=True, window=sliding_window)
    return out_THE.unsqueeze(0), None


def use_packed(model: PreTrainedModel) -> None:
    """Switch a transformers model to packed attention. transformers then builds no mask of its own for it."""
    AttentionInterface.register(PACKED, packed_forward)
    model.set_attn_implementation(PACKED)


def use_padded(model: PreTrainedModel) -> None:
    """Switch a transformers model back to attention over padded rows, as generation with a cache needs it."""
    model.set_attn_implementation("sdpa")


def disable_dropout(model: PreTrainedModel) -> None:
    """Set every dropout of a transformers model to 0; its configuration keeps the values.

    The paper trains without dropout, packed attention has none, and torch's draws would not survive a resumed run.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in DROPOUT_ATTRIBUTES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def document_bounds(lengths: list[int]) -> Tensor:
    """Return the bounds [B + 1] of documents that lie one after another."""
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)

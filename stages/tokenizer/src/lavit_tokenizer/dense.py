"""The paper's own dense formulation: all patches through merger and decoder, who sees whom told by masks.

It runs the same modules as the packed path. Selector training needs it (the mask's gradient reaches the loss through
every attention), and tests hold the packed path against it. Letters: B images, P patches, D width, C code width.
"""

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from lavit_trainkit.activation_checkpointing import run_block
from torch import Tensor

from lavit_tokenizer.decoder import DecoderBlock, FeatureDecoder
from lavit_tokenizer.layers import CrossAttention, SelfAttention

if TYPE_CHECKING:
    from lavit_tokenizer.merger import Merger, MergerBlock  # which itself uses this module

MASKED_SCORE_LIMIT = 30.0
"""How far a closed key may score above the best open one before its exponential is cut (it only feeds gradients)."""


def policy_softmax(scores: Tensor, policy: Tensor, *, released_eps: float = 0.0) -> Tensor:
    """Return exp(scores) * policy / sum, the softmax over open keys that passes gradients to the policy.

    `released_eps` > 0 gives the released code's form, in which closed keys leak.
    """
    scores = scores.float()
    if released_eps:
        weights = (scores - scores.amax(-1, keepdim=True)).exp() * policy
        return (weights + released_eps / scores.shape[-1]) / (weights.sum(-1, keepdim=True) + released_eps)
    best_open = scores.masked_fill(policy == 0, -1e30).amax(-1, keepdim=True)
    weights = (scores - best_open).clamp_max(MASKED_SCORE_LIMIT).exp() * policy
    return weights / weights.sum(-1, keepdim=True).clamp_min(1e-30)


def dense_self_attention(
    attention: SelfAttention, x_BPD: Tensor, policy: Tensor | None, *, released_eps: float = 0.0
) -> Tensor:
    """Self-attention under a policy [B, 1, P, P] (None: all open)."""
    batch, length, _ = x_BPD.shape
    q, k, v = attention.qkv(x_BPD).view(batch, length, 3, attention.heads, -1).permute(2, 0, 3, 1, 4)
    return attention.proj(_mix(q, k, v, policy, released_eps))


def dense_cross_attention(
    attention: CrossAttention, x_BPD: Tensor, context_BSD: Tensor, policy: Tensor, *, released_eps: float = 0.0
) -> Tensor:
    """Cross-attention to context rows under a policy [B, 1, 1, S]."""
    q, k, v = (
        rows.view(*rows.shape[:2], attention.heads, -1).transpose(1, 2)
        for rows in (attention.query(x_BPD), attention.key(context_BSD), attention.value(context_BSD))
    )
    return attention.proj(_mix(q, k, v, policy, released_eps))


def _mix(q: Tensor, k: Tensor, v: Tensor, policy: Tensor | None, released_eps: float) -> Tensor:
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    weights = scores.softmax(-1) if policy is None else policy_softmax(scores, policy, released_eps=released_eps)
    return (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)


def dense_merger(merger: "Merger", x_BPD: Tensor, mask_BP: Tensor, *, released_eps: float = 0.0) -> Tensor:
    """Return [B, P, D]: rows of kept patches are the merged features, the others are to be ignored.

    A kept row sees itself and earlier kept rows, and by cross-attention the dropped patches.
    """
    x_BPD = merger.place(x_BPD)
    length = mask_BP.shape[1]
    eye = torch.eye(length, device=mask_BP.device)
    earlier = torch.ones(length, length, device=mask_BP.device).tril()
    kept = mask_BP[:, None, None, :]
    causal = (kept + (1 - kept) * eye) * earlier
    dropped = 1 - kept
    context = merger.ln_vision(x_BPD)
    for block in cast("list[MergerBlock]", merger.blocks):
        inputs = block, x_BPD, context, causal, dropped, released_eps
        x_BPD = run_block(_dense_merger_block, *inputs, recompute=merger.recompute)
    return merger.norm(x_BPD)


def _dense_merger_block(
    block: "MergerBlock", x_BPD: Tensor, context: Tensor, causal: Tensor, dropped: Tensor, released_eps: float
) -> Tensor:
    x_BPD = x_BPD + dense_self_attention(block.token_causal_attn, block.norm0(x_BPD), causal, released_eps=released_eps)
    x_BPD = x_BPD + dense_cross_attention(
        block.token_cross_attn, block.norm1(x_BPD), context, dropped, released_eps=released_eps
    )
    return x_BPD + block.mlp(block.norm2(x_BPD))


def dense_decoder(decoder: FeatureDecoder, z_BPC: Tensor, mask_BP: Tensor) -> Tensor:
    """Return features [B, P, D] from one code vector a patch, of which the kept ones are read."""
    rank = ((mask_BP > 0.5).long().cumsum(dim=1) - 1).clamp_min(0)
    codes_BPD = decoder.in_proj(z_BPC) + F.embedding(rank, decoder.pos_embed)
    policy = mask_BP[:, None, None, :]
    x_BPD = decoder.query_embed.expand(mask_BP.shape[0], -1, -1)
    for block in decoder.blocks:
        assert isinstance(block, DecoderBlock)
        x_BPD = run_block(_dense_decoder_block, block, x_BPD, codes_BPD, policy, recompute=decoder.recompute)
    return decoder.decode_task_layer(decoder.norm(x_BPD))


def _dense_decoder_block(block: DecoderBlock, x_BPD: Tensor, codes_BPD: Tensor, policy: Tensor) -> Tensor:
    x_BPD = x_BPD + dense_self_attention(block.self_attn, block.norm0(x_BPD), None)
    x_BPD = x_BPD + dense_cross_attention(block.cross_attn, block.norm1(x_BPD), codes_BPD, policy)
    return x_BPD + block.mlp(block.norm2(x_BPD))

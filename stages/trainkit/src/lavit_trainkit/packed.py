"""Attention over packed rows: many sequences lie one after another in [T, heads, dim], and none sees its neighbours.

Segment s owns rows cu[s]:cu[s+1] (int32 or int64, first 0, last T). Letters: T query rows, S key rows, H heads, E head
width, B segments, L longest segment.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOOP_FROM_ROWS = 256
"""Longest segment from which a loop over segments beats padding inside the attention on a CPU."""


def cumulative(counts: Tensor) -> Tensor:
    """Return segment bounds [B+1] from lengths [B]."""
    return F.pad(counts.cumsum(0), (1, 0))


def packed_attention(
    q_THE: Tensor,
    k_SHE: Tensor,
    v_SHE: Tensor,
    *,
    cu_q: Tensor,
    cu_k: Tensor,
    causal: bool = False,
    window: int | None = None,
) -> Tensor:
    """Return softmax(q k / sqrt(E)) v [T, H, E] within each segment; a segment without keys gives zeros.

    `causal` lets row i of a segment see the keys 0..i of its own segment (equal query and key lengths), and `window`
    only the last `window` of them.
    """
    assert window is None or causal, "a sliding window needs causal attention"
    if q_THE.is_cuda and q_THE.dtype in (torch.bfloat16, torch.float16) and bool((cu_k.diff() > 0).all()):
        from torch.nn.attention.varlen import varlen_attn

        before, after = -1 if window is None else window - 1, 0 if causal else -1  # -1: no limit
        longest = int(cu_q.diff().max()), int(cu_k.diff().max())
        out_THE = varlen_attn(q_THE, k_SHE, v_SHE, cu_q.int(), cu_k.int(), *longest, window_size=(before, after))
        assert isinstance(out_THE, Tensor)  # a tuple only when auxiliary outputs are asked for
        return out_THE
    if q_THE.is_meta or int(cu_q.diff().max()) >= LOOP_FROM_ROWS:
        return looped_attention(q_THE, k_SHE, v_SHE, cu_q=cu_q, cu_k=cu_k, causal=causal, window=window)
    return padded_attention(q_THE, k_SHE, v_SHE, cu_q=cu_q, cu_k=cu_k, causal=causal, window=window)


def looped_attention(
    q_THE: Tensor,
    k_SHE: Tensor,
    v_SHE: Tensor,
    *,
    cu_q: Tensor,
    cu_k: Tensor,
    causal: bool = False,
    window: int | None = None,
) -> Tensor:
    """Reference: one scaled_dot_product_attention a segment."""
    parts = []
    bounds_q, bounds_k = pairwise(cu_q.tolist()), pairwise(cu_k.tolist())
    for (start, end), (first, last) in zip(bounds_q, bounds_k, strict=True):
        if first == last or start == end:
            parts.append(torch.zeros_like(q_THE[start:end]))
            continue
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q_THE[start:end], k_SHE[first:last], v_SHE[first:last]))
        # The mask only where it says more than `is_causal`, which has the faster kernels.
        mask_LL = None if window is None or end - start <= window else causal_mask(end - start, window, q_THE.device)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_LL, is_causal=causal and mask_LL is None)
        parts.append(out.squeeze(0).transpose(0, 1))
    return torch.cat(parts)


def causal_mask(length: int, window: int | None, device: torch.device) -> Tensor:
    """Return which keys each row of a segment may see, bool [L, L]: up to its own, and the last `window` of those."""
    open_LL = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return open_LL if window is None else open_LL.triu(1 - window)


def padded_attention(
    q_THE: Tensor,
    k_SHE: Tensor,
    v_SHE: Tensor,
    *,
    cu_q: Tensor,
    cu_k: Tensor,
    causal: bool = False,
    window: int | None = None,
) -> Tensor:
    """Pad segments inside the attention only, and use plain matrix products: fastest on a CPU for short segments.

    (torch's fused CPU attention spends most of a short step in its backward pass.)
    """
    num_segments = cu_q.numel() - 1
    longest_q, longest_k = int(cu_q.diff().max()), max(1, int(cu_k.diff().max()))
    rows_q = None if q_THE.shape[0] == num_segments * longest_q else padded_rows(cu_q, q_THE.shape[0], longest_q)
    ragged_k = k_SHE.shape[0] != num_segments * longest_k
    rows_k = rows_q if cu_k is cu_q else padded_rows(cu_k, k_SHE.shape[0], longest_k) if ragged_k else None
    bias_BLL = None
    if causal or ragged_k:  # else every key is open
        open_BLL = (torch.arange(longest_k, device=cu_k.device) < cu_k.diff()[:, None])[:, None, :]
        if causal:
            open_BLL = open_BLL & causal_mask(longest_q, window, cu_k.device)
        bias_BLL = torch.zeros(open_BLL.shape, device=cu_k.device).masked_fill_(~open_BLL, -1e30)
    shape = num_segments, longest_q, longest_k
    # Under autocast queries and keys can be wider than values (rotary embeddings multiply in float32).
    q_THE, k_SHE = q_THE.to(v_SHE.dtype), k_SHE.to(v_SHE.dtype)
    out_THE: Tensor = _PaddedAttention.apply(q_THE, k_SHE, v_SHE, rows_q, rows_k, bias_BLL, shape)  # type: ignore[no-untyped-call]
    return out_THE


class _PaddedAttention(torch.autograd.Function):
    """Softmax attention with its gradient written out: half the passes over the scores that autograd makes.

    Letters as above; N = B * H. Padding holds zeros, so a segment without keys gives zeros.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_THE: Tensor,
        k_SHE: Tensor,
        v_SHE: Tensor,
        rows_q: Tensor | None,
        rows_k: Tensor | None,
        bias_BLL: Tensor | None,
        shape: tuple[int, int, int],
    ) -> Tensor:
        segments, longest_q, longest_k = shape
        scale, heads = q_THE.shape[-1] ** -0.5, q_THE.shape[1]
        q_NLE = _spread(q_THE, rows_q, segments, longest_q)
        k_NLE, v_NLE = (_spread(x, rows_k, segments, longest_k) for x in (k_SHE, v_SHE))
        scores_NLL = torch.bmm(q_NLE, k_NLE.transpose(1, 2))
        if bias_BLL is None:
            scores_NLL = scores_NLL.float().mul_(scale)
        else:
            scores_BHLL = scores_NLL.unflatten(0, (segments, heads))
            scores_NLL = torch.add(bias_BLL[:, None], scores_BHLL, alpha=scale).flatten(0, 1)
        weights_NLL = scores_NLL.softmax(-1).to(v_NLE.dtype)
        ctx.save_for_backward(q_NLE, k_NLE, v_NLE, weights_NLL, rows_q, rows_k)
        ctx.shape = shape
        return _collect(torch.bmm(weights_NLL, v_NLE), rows_q, segments, heads)

    @staticmethod
    def backward(ctx: Any, grad_THE: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q_NLE, k_NLE, v_NLE, weights_NLL, rows_q, rows_k = ctx.saved_tensors
        segments, longest_q, _ = ctx.shape
        heads = grad_THE.shape[1]
        grad_NLE = _spread(grad_THE.to(v_NLE.dtype), rows_q, segments, longest_q)
        grad_v = torch.bmm(weights_NLL.transpose(1, 2), grad_NLE)
        grad_weights = torch.bmm(grad_NLE, v_NLE.transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_weights, weights_NLL, -1, weights_NLL.dtype)
        grad_scores = grad_scores.mul_(q_NLE.shape[-1] ** -0.5)
        grad_q, grad_k = torch.bmm(grad_scores, k_NLE), torch.bmm(grad_scores.transpose(1, 2), q_NLE)
        grads = (_collect(g, r, segments, heads) for g, r in ((grad_q, rows_q), (grad_k, rows_k), (grad_v, rows_k)))
        return (*grads, None, None, None, None)


def padded_rows(cu: Tensor, rows: int, longest: int) -> Tensor:
    """Return where each packed row lies among B * longest padded ones [T]."""
    segment = torch.repeat_interleave(torch.arange(cu.numel() - 1, device=cu.device), cu.diff(), output_size=rows)
    return torch.arange(rows, device=cu.device) - cu[segment] + segment * longest


def _spread(x_THE: Tensor, rows: Tensor | None, segments: int, longest: int) -> Tensor:
    """Return packed rows as [B * H, longest, E], zeros in the gaps; `rows` None when there are none."""
    if rows is not None:
        x_THE = x_THE.new_zeros(segments * longest, *x_THE.shape[1:]).index_copy_(0, rows, x_THE)
    return x_THE.unflatten(0, (segments, longest)).transpose(1, 2).flatten(0, 1)


def _collect(x_NLE: Tensor, rows: Tensor | None, segments: int, heads: int) -> Tensor:
    """Undo `_spread`: return the packed rows [T, H, E]."""
    x_THE = x_NLE.unflatten(0, (segments, heads)).transpose(1, 2).flatten(0, 1)
    return x_THE if rows is None else x_THE.index_select(0, rows)

"""Attention over packed rows: many sequences lie one after another in [T, heads, dim], and none sees its neighbours.

Segment s owns rows cu[s]:cu[s+1] (int32 or int64, first 0, last T). Letters: T query rows, S key rows, H heads, E head
width, B segments, L longest segment.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

LOOP_FROM_ROWS = 256
"""Longest segment from which a loop over segments beats padding inside the attention on a CPU."""


def cumulative(counts: Tensor) -> Tensor:
    """Return segment bounds [B+1] from lengths [B]."""
    return F.pad(counts.cumsum(0), (1, 0))


def packed_attention(
    q_THE: Tensor, k_SHE: Tensor, v_SHE: Tensor, *, cu_q: Tensor, cu_k: Tensor, causal: bool = False
) -> Tensor:
    """Return softmax(q k / sqrt(E)) v [T, H, E] within each segment; a segment without keys gives zeros.

    `causal` lets row i of a segment see the keys 0..i of its own segment (equal query and key lengths).
    """
    if q_THE.is_cuda and q_THE.dtype in (torch.bfloat16, torch.float16) and bool((cu_k.diff() > 0).all()):
        from torch.nn.attention.varlen import varlen_attn

        window = (-1, 0) if causal else (-1, -1)
        longest = int(cu_q.diff().max()), int(cu_k.diff().max())
        out_THE = varlen_attn(q_THE, k_SHE, v_SHE, cu_q.int(), cu_k.int(), *longest, window_size=window)
        assert isinstance(out_THE, Tensor)  # a tuple only when auxiliary outputs are asked for
        return out_THE
    if int(cu_q.diff().max()) >= LOOP_FROM_ROWS:
        return looped_attention(q_THE, k_SHE, v_SHE, cu_q=cu_q, cu_k=cu_k, causal=causal)
    return padded_attention(q_THE, k_SHE, v_SHE, cu_q=cu_q, cu_k=cu_k, causal=causal)


def looped_attention(
    q_THE: Tensor, k_SHE: Tensor, v_SHE: Tensor, *, cu_q: Tensor, cu_k: Tensor, causal: bool = False
) -> Tensor:
    """Reference: one scaled_dot_product_attention a segment."""
    parts = []
    bounds_q, bounds_k = cu_q.tolist(), cu_k.tolist()
    for (start, end), (first, last) in zip(_pairs(bounds_q), _pairs(bounds_k), strict=True):
        if first == last or start == end:
            parts.append(torch.zeros_like(q_THE[start:end]))
            continue
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q_THE[start:end], k_SHE[first:last], v_SHE[first:last]))
        parts.append(F.scaled_dot_product_attention(q, k, v, is_causal=causal).squeeze(0).transpose(0, 1))
    return torch.cat(parts)


def padded_attention(
    q_THE: Tensor, k_SHE: Tensor, v_SHE: Tensor, *, cu_q: Tensor, cu_k: Tensor, causal: bool = False
) -> Tensor:
    """Pad segments inside the attention only, and use plain matrix products: fastest on a CPU for short segments.

    (torch's fused CPU attention spends most of a short step in its backward pass.)
    """
    seg_q, rank_q = _segment_and_rank(cu_q, q_THE.shape[0])
    seg_k, rank_k = _segment_and_rank(cu_k, k_SHE.shape[0])
    num_segments = cu_q.numel() - 1
    longest_q, longest_k = int(cu_q.diff().max()), max(1, int(cu_k.diff().max()))
    q_BHLE = _spread(q_THE, seg_q, rank_q, num_segments, longest_q)
    k_BHLE = _spread(k_SHE, seg_k, rank_k, num_segments, longest_k)
    v_BHLE = _spread(v_SHE, seg_k, rank_k, num_segments, longest_k)
    scores = q_BHLE @ k_BHLE.transpose(-1, -2) * q_THE.shape[-1] ** -0.5
    scores = scores.float()
    ragged = k_SHE.shape[0] != num_segments * longest_k
    if causal or ragged:  # else every key is open, and a pass over the scores is saved
        open_BLL = (torch.arange(longest_k, device=cu_k.device) < cu_k.diff()[:, None])[:, None, :]
        if causal:
            open_BLL = open_BLL & torch.ones(longest_q, longest_k, dtype=torch.bool, device=cu_k.device).tril()
        scores = scores.masked_fill(~open_BLL[:, None], -1e30)
    weights = scores.softmax(-1).to(v_BHLE.dtype)
    out_BHLE = weights @ v_BHLE
    out_BLHE = out_BHLE.transpose(1, 2)
    equal = q_THE.shape[0] == num_segments * longest_q
    out_THE = out_BLHE.flatten(0, 1) if equal else out_BLHE[seg_q, rank_q]
    empty = cu_k.diff() == 0
    return out_THE.masked_fill(empty[seg_q, None, None], 0.0) if bool(empty.any()) else out_THE


def _pairs(bounds: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(bounds))


def _segment_and_rank(cu: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    segment = torch.repeat_interleave(torch.arange(cu.numel() - 1, device=cu.device), cu.diff(), output_size=rows)
    return segment, torch.arange(rows, device=cu.device) - cu[segment]


def _spread(x_THE: Tensor, segment: Tensor, rank: Tensor, num_segments: int, longest: int) -> Tensor:
    if x_THE.shape[0] == num_segments * longest:  # segments of one length: nothing to pad
        return x_THE.unflatten(0, (num_segments, longest)).transpose(1, 2)
    padded = x_THE.new_zeros(num_segments, longest, *x_THE.shape[1:])
    return padded.index_put((segment, rank), x_THE).transpose(1, 2)

"""Cross-entropy over a large vocabulary without ever holding all logits.

Letters: N scored positions, D hidden width, V vocabulary (text + visual ids; the paper's one shared head).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lavit_pretrain.head import Head

CHUNK_ROWS, CHUNK_LOGITS = 8192, 8192 * 48_386
"""Positions whose logits exist at the same time, and logits: with larger vocabularies than the paper's, fewer rows."""


def chunk_rows(vocabulary: int) -> int:
    """Return how many positions' logits exist at the same time."""
    return max(1, min(CHUNK_ROWS, CHUNK_LOGITS // vocabulary))


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Gradients are made in the forward pass, chunk by chunk, because a chunk's logits are gone afterwards."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        bias_V: Tensor | None,
        head: Head,
        targets_N: Tensor,
        weights_N: Tensor,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        device = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
        with torch.autocast(device, enabled=False):
            return _forward(ctx, hidden_ND.to(dtype), head, targets_N, weights_N, chunk, hidden_ND.dtype)

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, grad_each: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grad_hidden_ND, grad_head_VD, grad_bias_V = ctx.saved_tensors
        grad_bias_V = None if grad_bias_V is None else grad_bias_V * grad_total
        return grad_hidden_ND * grad_total, grad_head_VD * grad_total, grad_bias_V, None, None, None, None


def _forward(
    ctx: Any, hidden_ND: Tensor, head: Head, targets_N: Tensor, weights_N: Tensor, chunk: int, grad_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    wanted, head_VD = any(ctx.needs_input_grad[:3]), head.weight_VD
    head_low_VD = head_VD.to(hidden_ND.dtype)
    losses, grad_hidden_ND = [], torch.empty_like(hidden_ND) if wanted else None
    grad_head_VD = torch.zeros_like(head_VD, dtype=torch.float32) if wanted else None
    grad_bias_V = torch.zeros_like(head.bias_V, dtype=torch.float32) if wanted and head.bias_V is not None else None
    for start in range(0, hidden_ND.shape[0], chunk):
        here = slice(start, start + chunk)
        logits_NV = head.shape_logits((hidden_ND[here] @ head_low_VD.T).float())
        log_probs_NV = F.log_softmax(logits_NV, dim=-1)
        losses.append(-log_probs_NV.gather(1, targets_N[here, None])[:, 0])
        if grad_hidden_ND is None or grad_head_VD is None:
            continue
        grad_NV = log_probs_NV.exp_()
        grad_NV[torch.arange(grad_NV.shape[0], device=grad_NV.device), targets_N[here]] -= 1.0
        grad_NV.mul_(weights_N[here, None])
        if head.cap is not None:  # the derivative of the cap, 1 - tanh^2
            grad_NV.mul_(1 - (logits_NV / head.cap) ** 2)
        if head.scale != 1.0:
            grad_NV.mul_(head.scale)
        if grad_bias_V is not None:
            grad_bias_V += grad_NV.sum(0)
        grad_low_NV = grad_NV.to(hidden_ND.dtype)
        grad_hidden_ND[here] = grad_low_NV @ head_low_VD
        grad_head_VD += grad_low_NV.T @ hidden_ND[here]
    each_N = torch.cat(losses) if losses else weights_N.new_zeros(0)
    if grad_hidden_ND is not None and grad_head_VD is not None:
        if grad_bias_V is not None and head.bias_V is not None:
            grad_bias_V = grad_bias_V.to(head.bias_V.dtype)
        ctx.save_for_backward(grad_hidden_ND.to(grad_dtype), grad_head_VD.to(head_VD.dtype), grad_bias_V)
    ctx.mark_non_differentiable(each_N)
    return (each_N * weights_N).sum(), each_N


def chunked_cross_entropy(
    hidden_ND: Tensor, head: Head, targets_N: Tensor, weights_N: Tensor, *, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of cross-entropies, and each position's own (no gradient), both float32.

    Positions that are not scored are left out by the caller: they cost no logits. `chunk` is `chunk_rows` unless given.
    """
    chunk = chunk or chunk_rows(len(head.weight_VD))
    given = hidden_ND, head.weight_VD, head.bias_V, head, targets_N, weights_N, chunk
    total, each_N = _ChunkedCrossEntropy.apply(*given)  # type: ignore[no-untyped-call]
    return total, each_N

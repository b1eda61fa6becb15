"""Attention and MLP shared by encoder, merger and decoder; parameter names are those of the released checkpoints.

Each attention has two forms on the same weights. `forward` is packed: the rows of all images one after another, and no
work for rows that nobody sees. `forward_masked` is the paper's dense formulation: all patches of each image, and a
policy that opens keys; its gradient reaches the policy, which selector training needs. A test holds them together.

Letters: B images, P patches, D width, H heads, E = D / H, T rows of all images one after another (packed), S key rows.
"""

import math

import torch
import torch.nn.functional as F
from lavit_trainkit.packed import packed_attention
from torch import Tensor, nn

NORM_EPS = 1e-5

MASKED_SCORE_LIMIT = 30.0
"""The most that a closed key may score above the best open one before its exponential is cut (for gradients only)."""


class Mlp(nn.Module):
    """fc1, GELU, fc2."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., D] to [..., D]."""
        return self.fc2(F.gelu(self.fc1(x)))


class SelfAttention(nn.Module):
    """Multi-head attention of an image's rows to rows of the same image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_TD: Tensor, cu: Tensor, *, causal: bool) -> Tensor:
        """Return [T, D] of packed rows; `causal` lets a row see itself and the earlier ones of its image."""
        q, k, v = self.qkv(x_TD).view(x_TD.shape[0], 3, self.heads, -1).unbind(1)
        return self.proj(packed_attention(q, k, v, cu_q=cu, cu_k=cu, causal=causal).flatten(1))

    def forward_masked(self, x_BPD: Tensor, policy: Tensor | None, *, released_eps: float = 0.0) -> Tensor:
        """Return [B, P, D] under a policy [B, 1, P, P] (None: every row sees all rows of its image)."""
        batch, length, _ = x_BPD.shape
        q, k, v = self.qkv(x_BPD).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.proj(_masked_attention(q, k, v, policy, released_eps))


class CrossAttention(nn.Module):
    """Multi-head attention of an image's rows to other rows of the same image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_TD: Tensor, context_SD: Tensor, *, cu_q: Tensor, cu_k: Tensor) -> Tensor:
        """Return [T, D] of packed rows; an image without context rows gets the projection's bias alone."""
        q, k, v = (
            rows.unflatten(1, (self.heads, -1))  # view can't infer -1 when every patch is kept and no context is left
            for rows in (self.query(x_TD), self.key(context_SD), self.value(context_SD))
        )
        return self.proj(packed_attention(q, k, v, cu_q=cu_q, cu_k=cu_k).flatten(1))

    def forward_masked(
        self, x_BPD: Tensor, context_BSD: Tensor, policy: Tensor, *, released_eps: float = 0.0
    ) -> Tensor:
        """Return [B, P, D] under a policy [B, 1, 1, S] over the context rows."""
        q, k, v = (
            rows.view(*rows.shape[:2], self.heads, -1).transpose(1, 2)
            for rows in (self.query(x_BPD), self.key(context_BSD), self.value(context_BSD))
        )
        return self.proj(_masked_attention(q, k, v, policy, released_eps))


def _masked_attention(
    q_BHPE: Tensor, k_BHSE: Tensor, v_BHSE: Tensor, policy: Tensor | None, released_eps: float
) -> Tensor:
    scores = q_BHPE @ k_BHSE.transpose(-1, -2) * q_BHPE.shape[-1] ** -0.5
    weights = scores.softmax(-1) if policy is None else policy_softmax(scores, policy, released_eps=released_eps)
    return (weights.to(v_BHSE.dtype) @ v_BHSE).transpose(1, 2).flatten(2)


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


def linear_in_bf16(module: nn.Module) -> None:
    """Store the weights of frozen linear layers as autocast hands them to their products: the same numbers come out.

    Autocast casts them anew in every call otherwise, from twice the memory. They work under autocast alone then.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.to(torch.bfloat16)


def init_transformer(module: nn.Module, width: int) -> None:
    """Initialise linear weights as normal(0, 0.75 / sqrt(D)) cut at two sigma, biases as 0.

    That is the released code's 0.02 at its D = 1408. Differs: 0.02 at any width leaves a narrow network almost linear
    for its first hundreds of steps.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.75 * width**-0.5, a=-2.0, b=2.0)
            nn.init.zeros_(part.bias)


def sincos_table(grid: tuple[int, int], width: int) -> Tensor:
    """Return the 2-D sine-cosine table [P, D]: half the width for rows, half for columns."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.cat([_sincos(rows.flatten(), width // 2), _sincos(columns.flatten(), width - width // 2)], dim=1)


def _sincos(positions: Tensor, width: int) -> Tensor:
    # Wavelengths from 4 to 400 patches: the usual 10,000 leaves most channels constant on a small grid.
    rates = torch.exp(-math.log(100.0) * torch.arange((width + 1) // 2) / ((width + 1) // 2)) * math.pi / 2
    angles = positions[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]

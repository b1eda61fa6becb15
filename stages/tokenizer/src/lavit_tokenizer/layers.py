"""Attention and MLP shared by encoder, merger and decoder; parameter names are those of the released checkpoints.

Letters: B images, P patches, D width, H heads, E = D / H, T rows of all images one after another (packed), S key rows.
"""

import math

import torch
import torch.nn.functional as F
from lavit_trainkit.packed import packed_attention
from torch import Tensor, nn

NORM_EPS = 1e-5


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
    """Multi-head attention of packed rows to rows of the same image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_TD: Tensor, cu: Tensor, *, causal: bool) -> Tensor:
        """Return [T, D]; `causal` lets a row see itself and the earlier ones of its image."""
        q, k, v = self.qkv(x_TD).view(x_TD.shape[0], 3, self.heads, -1).unbind(1)
        return self.proj(packed_attention(q, k, v, cu_q=cu, cu_k=cu, causal=causal).flatten(1))


class CrossAttention(nn.Module):
    """Multi-head attention of packed rows to other packed rows of the same image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_TD: Tensor, context_SD: Tensor, *, cu_q: Tensor, cu_k: Tensor) -> Tensor:
        """Return [T, D]; an image without context rows gets the projection's bias alone."""
        q, k, v = (
            rows.unflatten(1, (self.heads, -1))  # view can't infer -1 when every patch is kept and no context is left
            for rows in (self.query(x_TD), self.key(context_SD), self.value(context_SD))
        )
        return self.proj(packed_attention(q, k, v, cu_q=cu_q, cu_k=cu_k).flatten(1))


def init_transformer(module: nn.Module, width: int) -> None:
    """Linear weights normal(0, 0.75 / sqrt(D)) cut at two sigma, biases 0: the released code's 0.02 at its D = 1408.

    Differs: 0.02 at any width leaves a narrow network almost linear for its first hundreds of steps.
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

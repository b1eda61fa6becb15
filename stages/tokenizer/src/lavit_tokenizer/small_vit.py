"""The small ViT that `train-encoder` trains, and the transformer block it shares with its text heads.

Letters: B images, P patches, D width, H heads, E = D / H, L query rows, S key rows, R registers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavit_tokenizer.config import SmallVitConfig
from lavit_tokenizer.layers import Mlp, init_transformer, sincos_table

VIT_EPS = 1e-6


class Attention(nn.Module):
    """Self-attention over equal-length rows; plain matrix products on a CPU, where they train twice as fast."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BPD: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return [B, P, D]; `mask`, broadcast to [B, H, P, P], is True where a row may look."""
        batch, length, width = x_BPD.shape
        q, k, v = self.qkv(x_BPD).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v, mask))


def attend(q_BHLE: Tensor, k_BHSE: Tensor, v_BHSE: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k / sqrt(E)) v with the heads put side by side, [B, L, H * E]."""
    if not q_BHLE.is_cpu:
        mixed = F.scaled_dot_product_attention(q_BHLE, k_BHSE, v_BHSE, attn_mask=mask)
    else:
        scores = (q_BHLE * q_BHLE.shape[-1] ** -0.5) @ k_BHSE.transpose(-1, -2)
        mixed = (scores if mask is None else scores.masked_fill(~mask, -1e4)).softmax(-1).to(v_BHSE.dtype) @ v_BHSE
    return mixed.transpose(1, 2).flatten(2)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=VIT_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=VIT_EPS)
        self.mlp = Mlp(width, mlp_dim)

    def forward(self, x_BPD: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return [B, P, D]."""
        x_BPD = x_BPD + self.attn(self.norm1(x_BPD), mask)
        return x_BPD + self.mlp(self.norm2(x_BPD))


class SmallVit(nn.Module):
    """Convolutional stem (kernels 4, 3, 3; stride 2 each), position table, blocks; no class token, no final norm."""

    def __init__(self, config: SmallVitConfig) -> None:
        super().__init__()
        self.config = config
        num_convs = config.patch_px.bit_length() - 1
        widths = [3, *(config.width >> (num_convs - 1 - i) for i in range(num_convs))]
        stem: list[nn.Module] = []
        for i in range(num_convs):
            if i:
                stem.append(nn.GELU())
            stem.append(nn.Conv2d(widths[i], widths[i + 1], 4 if i == 0 else 3, stride=2, padding=1))
        self.stem = nn.Sequential(*stem)
        self.pos_embed = nn.Parameter(sincos_table(config.grid, config.width))
        self.registers = nn.Parameter(0.02 * torch.randn(config.registers, config.width)) if config.registers else None
        self.blocks = nn.ModuleList([Block(config.width, config.heads, config.mlp_dim) for _ in range(config.layers)])
        init_transformer(self, config.width)

    def first_blocks(self, count: int) -> "SmallVit":
        """Return a network of the first blocks alone, with this one's weights."""
        shorter = SmallVit(self.config.model_copy(update={"layers": count}))
        own = self.state_dict()
        shorter.load_state_dict({name: own[name] for name in shorter.state_dict()})
        return shorter

    def stem_rows(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the convolutions' rows [B, P, D], before place and attention."""
        return self.stem(pixels_B3HW).flatten(2).transpose(1, 2)

    def rows(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the registers' rows, then the patches' features, [B, R + P, D]."""
        x_BPD = self.stem_rows(pixels_B3HW) + self.pos_embed
        if self.registers is not None:
            x_BPD = torch.cat([self.registers.expand(x_BPD.shape[0], -1, -1), x_BPD], dim=1)
        for block in self.blocks:
            x_BPD = block(x_BPD)
        return x_BPD

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """Return features [B, P, D] of normalised pixels."""
        return self.rows(pixels_B3HW)[:, self.config.registers :]

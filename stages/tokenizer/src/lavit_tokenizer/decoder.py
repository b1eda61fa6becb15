"""Feature decoder: codes back to one feature per patch, from learned queries (paper section 3.1).

`forward` is packed, `forward_masked` the paper's dense formulation on the same weights (see `layers`).

Letters: T code rows of all images, C code width, B images, P patches, D width.
"""

from typing import cast

import torch
import torch.nn.functional as F
from lavit_trainkit.activation_checkpointing import run_block
from lavit_trainkit.packed import cumulative
from torch import Tensor, nn

from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.layers import NORM_EPS, CrossAttention, Mlp, SelfAttention, init_transformer


class DecoderBlock(nn.Module):
    """Self-attention among the queries, cross-attention to the codes, MLP."""

    def __init__(self, width: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm0 = nn.LayerNorm(width, eps=NORM_EPS)
        self.self_attn = SelfAttention(width, heads)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.cross_attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, mlp_dim)

    def forward(self, x_ND: Tensor, codes_TD: Tensor, cu_own: Tensor, cu_queries: Tensor, cu_codes: Tensor) -> Tensor:
        """Return [B * P, D]. `x_ND` has the bounds `cu_own`: of all images, or of one whose queries stand for all."""
        x_ND = x_ND + self.self_attn(self.norm0(x_ND), cu_own, causal=False)
        if len(cu_own) < len(cu_queries):
            x_ND = x_ND.repeat(len(cu_queries) - 1, 1)
        x_ND = x_ND + self.cross_attn(self.norm1(x_ND), codes_TD, cu_q=cu_queries, cu_k=cu_codes)
        return x_ND + self.mlp(self.norm2(x_ND))

    def forward_masked(self, x_BPD: Tensor, codes_BPD: Tensor, policy: Tensor) -> Tensor:
        """Return [B, P, D]; `policy` [B, 1, 1, P] opens the codes of kept patches. Queries may be [1, P, D]."""
        x_BPD = x_BPD + self.self_attn.forward_masked(self.norm0(x_BPD), None)
        x_BPD = x_BPD + self.cross_attn.forward_masked(self.norm1(x_BPD), codes_BPD, policy)
        return x_BPD + self.mlp(self.norm2(x_BPD))


class FeatureDecoder(nn.Module):
    """P learned queries read the codes; a code is known by its rank in the sequence, not by its patch."""

    def __init__(
        self,
        width: int,
        *,
        layers: int,
        heads: int,
        mlp_dim: int,
        num_patches: int,
        code_dim: int,
        out_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.num_patches, self.recompute = num_patches, False
        """`recompute`: gradient checkpointing by block."""
        self.in_proj = nn.Linear(code_dim, width)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(num_patches, width))
        self.query_embed = nn.Parameter(0.02 * torch.randn(num_patches, width))
        self.blocks = nn.ModuleList([DecoderBlock(width, heads, mlp_dim) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.decode_task_layer = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, out_dim or width))
        init_transformer(self, width)

    def forward(self, z_TC: Tensor, counts_B: Tensor) -> Tensor:
        """Return features [B, P, D] from code vectors and the number of them in each image (at most P).

        Where `out_dim` was given they are that wide.
        """
        cu_codes = cumulative(counts_B)
        rank = torch.arange(z_TC.shape[0], device=cu_codes.device) - cu_codes[:-1].repeat_interleave(counts_B)
        # Not pos_embed[rank]: its gradient adds rows up in the order in which threads arrive.
        codes_TD = self.in_proj(z_TC) + F.embedding(rank.to(z_TC.device), self.pos_embed)
        num_images = counts_B.shape[0]
        cu_queries = torch.arange(num_images + 1, device=cu_codes.device) * self.num_patches
        # Before they have read codes the queries of all images are equal: the first block attends among those of one.
        x_ND: Tensor = self.query_embed
        cu_own = cu_queries[:2]
        for block in self.blocks:
            x_ND = run_block(block, x_ND, codes_TD, cu_own, cu_queries, cu_codes, recompute=self.recompute)
            cu_own = cu_queries
        return self.decode_task_layer(self.norm(x_ND)).view(num_images, self.num_patches, -1)

    def forward_masked(self, z_BPC: Tensor, mask_BP: Tensor) -> Tensor:
        """Return features [B, P, D] from one code vector a patch and a float mask: the kept ones are read."""
        rank = ((mask_BP > 0.5).long().cumsum(dim=1) - 1).clamp_min(0)
        codes_BPD = self.in_proj(z_BPC) + F.embedding(rank, self.pos_embed)
        policy = mask_BP[:, None, None, :]
        x_BPD = self.query_embed[None]
        for block in cast("list[DecoderBlock]", self.blocks):
            x_BPD = run_block(block.forward_masked, x_BPD, codes_BPD, policy, recompute=self.recompute)
        return self.decode_task_layer(self.norm(x_BPD))


def new_decoder(config: TokenizerConfig) -> FeatureDecoder:
    """Return an untrained feature decoder of a tokenizer's shape."""
    return FeatureDecoder(
        config.feature_dim,
        layers=config.decoder_layers,
        heads=config.heads,
        mlp_dim=config.mlp_dim,
        num_patches=config.num_patches,
        code_dim=config.code_dim,
        out_dim=config.decoder_width,
    )

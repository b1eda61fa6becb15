"""Token merger: kept patches absorb the content of the dropped ones (paper section 3.1, released `causal_encoder`).

`forward` is packed, `forward_masked` the paper's dense formulation on the same weights (see `layers`).

Letters: B images, P patches, T kept rows of all images in raster order, S dropped rows, D width;
cu: segment bounds [B + 1].
"""

from typing import cast

import torch
from lavit_trainkit.activation_checkpointing import run_block
from lavit_trainkit.packed import cumulative
from torch import Tensor, nn

from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.layers import NORM_EPS, CrossAttention, Mlp, SelfAttention, init_transformer

RELEASED_EPS = 1e-6
"""The released code's softmax constant."""


class MergerBlock(nn.Module):
    """Causal self-attention among kept rows, cross-attention to the dropped ones, MLP."""

    def __init__(self, width: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm0 = nn.LayerNorm(width, eps=NORM_EPS)
        self.token_causal_attn = SelfAttention(width, heads)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.token_cross_attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, mlp_dim)

    def forward(self, x_TD: Tensor, dropped_SD: Tensor, cu_kept: Tensor, cu_dropped: Tensor) -> Tensor:
        """Return [T, D]."""
        x_TD = x_TD + self.token_causal_attn(self.norm0(x_TD), cu_kept, causal=True)
        x_TD = x_TD + self.token_cross_attn(self.norm1(x_TD), dropped_SD, cu_q=cu_kept, cu_k=cu_dropped)
        return x_TD + self.mlp(self.norm2(x_TD))

    def forward_masked(
        self, x_BPD: Tensor, context_BPD: Tensor, causal: Tensor, dropped: Tensor, released_eps: float
    ) -> Tensor:
        """Return [B, P, D] under the policies `causal` [B, 1, P, P] and `dropped` [B, 1, 1, P]."""
        x_BPD = x_BPD + self.token_causal_attn.forward_masked(self.norm0(x_BPD), causal, released_eps=released_eps)
        x_BPD = x_BPD + self.token_cross_attn.forward_masked(
            self.norm1(x_BPD), context_BPD, dropped, released_eps=released_eps
        )
        return x_BPD + self.mlp(self.norm2(x_BPD))


class Merger(nn.Module):
    """Blocks over kept rows; keys and values are one LayerNorm of the raw dropped features, the same in every block.

    Differs: only kept rows are computed (the released code computes all P and throws the dropped ones away).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int,
        heads: int,
        mlp_dim: int,
        num_patches: int,
        positions: bool = False,
        released_softmax: bool = False,
    ) -> None:
        super().__init__()
        self.released_softmax, self.recompute = released_softmax, False
        """`recompute`: gradient checkpointing by block."""
        self.ln_vision = nn.LayerNorm(width, eps=NORM_EPS)
        self.blocks = nn.ModuleList(MergerBlock(width, heads, mlp_dim) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        # Differs when on (TokenizerConfig.merger_positions): the paper's merger has no positions of its own.
        self.pos_embed = nn.Parameter(0.02 * torch.randn(num_patches, width)) if positions else None
        init_transformer(self, width)

    def place(self, x_BPD: Tensor) -> Tensor:
        """Return the features with their place added, where the merger has a position table."""
        return x_BPD if self.pos_embed is None else x_BPD + self.pos_embed

    def forward(self, x_BPD: Tensor, keep_BP: Tensor) -> Tensor:
        """Return merged features [T, D] of the kept patches from all features and a bool mask.

        Packed; masked where the weights were trained with the released softmax, whose closed keys reach every row.
        """
        if self.released_softmax:
            return self.forward_masked(x_BPD, keep_BP.to(x_BPD), released_eps=RELEASED_EPS)[keep_BP]
        x_BPD = self.place(x_BPD)
        kept = keep_BP.sum(dim=1)
        cu_kept, cu_dropped = cumulative(kept), cumulative(keep_BP.shape[1] - kept)
        x_TD, dropped_SD = x_BPD[keep_BP], self.ln_vision(x_BPD[~keep_BP])
        for block in self.blocks:
            x_TD = run_block(block, x_TD, dropped_SD, cu_kept, cu_dropped, recompute=self.recompute)
        return self.norm(x_TD)

    def forward_masked(self, x_BPD: Tensor, mask_BP: Tensor, *, released_eps: float = 0.0) -> Tensor:
        """Return [B, P, D] from all features and a float mask: rows of kept patches are merged, ignore the others.

        A kept row sees itself and earlier kept rows, and by cross-attention the dropped patches.
        """
        x_BPD = self.place(x_BPD)
        length = mask_BP.shape[1]
        eye = torch.eye(length, device=mask_BP.device)
        earlier = torch.ones(length, length, device=mask_BP.device).tril()
        kept = mask_BP[:, None, None, :]
        causal, dropped = (kept + (1 - kept) * eye) * earlier, 1 - kept
        context = self.ln_vision(x_BPD)
        for block in cast("list[MergerBlock]", self.blocks):
            inputs = x_BPD, context, causal, dropped, released_eps
            x_BPD = run_block(block.forward_masked, *inputs, recompute=self.recompute)
        return self.norm(x_BPD)


def new_merger(config: TokenizerConfig) -> Merger:
    """Return an untrained merger of a tokenizer's shape, also for the copy that learns with a language model."""
    return Merger(
        config.feature_dim,
        layers=config.merger_layers,
        heads=config.heads,
        mlp_dim=config.mlp_dim,
        num_patches=config.num_patches,
        positions=config.merger_positions,
        released_softmax=config.released_softmax,
    )

"""Decoded features to the inputs of a UNet: a sequence to attend to, a pooled vector, a map on its grid.

Letters: B images, P patches, D feature width, L sequence length, W attended width, C channels.
Source: LaVIT 2309.04669 section 3.2; module names are the released decoder's.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavit_detokenizer.config import DetokenizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
    """The UNet's inputs made from decoded features; None for those that the UNet does not take."""

    sequence_BLW: Tensor
    mask_BL: Tensor | None
    pooled_BE: Tensor | None
    map_BCHW: Tensor | None


class AttentionPool(nn.Module):
    """CLIP's attention pooling: the mean of all tokens attends to all tokens and itself for one vector [B, E]."""

    def __init__(self, num_patches: int, width: int, out_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(num_patches + 1, width) / width**0.5)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, out_dim)

    def forward(self, x_BPD: Tensor) -> Tensor:
        x_BPD = torch.cat([x_BPD.mean(dim=1, keepdim=True), x_BPD], dim=1) + self.positional_embedding
        q, k, v = self.q_proj(x_BPD[:, :1]), self.k_proj(x_BPD), self.v_proj(x_BPD)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))
        pooled = F.scaled_dot_product_attention(q, k, v)
        return self.c_proj(pooled.transpose(1, 2).flatten(2)[:, 0])


class Condition(nn.Module):
    """Turns decoded features [B, P, D] into a Prompt; dropped rows get the null condition."""

    unet_attnpool: AttentionPool
    map_proj: nn.Linear
    feature_mean: Tensor
    feature_deviation: Tensor
    null_embedding: Tensor

    def __init__(self, config: DetokenizerConfig, *, null_shape: tuple[int, int] | None = None) -> None:
        super().__init__()
        shape, width = config.condition, config.feature_dim
        self.shape, self.grid, self.image_px = shape, config.grid, config.image_px
        if shape.attended:
            names = ["unet_proj"] if len(shape.cross_dims) == 1 else [f"unet_proj_{i + 1}" for i in range(9)]
            self.cross_names = names[: len(shape.cross_dims)]
            for name, dim in zip(self.cross_names, shape.cross_dims, strict=True):
                self.add_module(name, nn.Linear(width, dim))
        if shape.pooled_dim is not None:
            patches = config.grid[0] * config.grid[1]
            self.unet_attnpool = AttentionPool(patches, width, shape.pooled_dim, shape.pooled_heads)
        if shape.concatenated:
            self.map_proj = nn.Linear(width, shape.map_channels)
        if shape.standardise:
            self.register_buffer("feature_mean", torch.zeros(width))
            self.register_buffer("feature_deviation", torch.ones(width))
        if null_shape is not None:
            self.register_buffer("null_embedding", torch.zeros(null_shape))

    @torch.no_grad()
    def fit_scale(self, features_NPD: Tensor) -> None:
        """Set the standardisation from sample features."""
        self.feature_mean.copy_(features_NPD.mean(dim=(0, 1)))
        # A constant channel would be amplified to noise.
        deviation = features_NPD.std(dim=(0, 1))
        self.feature_deviation.copy_(deviation.clamp_min(1e-6 * float(deviation.max()) + 1e-12))

    def forward(self, features_BPD: Tensor, dropped_B: Tensor, *, grid: tuple[int, int]) -> Prompt:
        """Return the prompt of features [B, P, D]; rows of `dropped` bool [B] get the null condition.

        `grid` is height and width of the UNet's input, which the map is resized to.
        """
        if self.shape.standardise:
            features_BPD = (features_BPD - self.feature_mean) / self.feature_deviation
        kept_B11 = (~dropped_B)[:, None, None].to(features_BPD.dtype)
        sequence_BLW, mask_BL = self._sequence(features_BPD, dropped_B, kept_B11)
        pooled_BE = map_BCHW = None
        if self.shape.pooled_dim is not None:
            pooled_BE = self.unet_attnpool(features_BPD) * kept_B11[:, 0]
        if self.shape.concatenated:
            map_BPC = self.map_proj(features_BPD) * kept_B11
            map_BCHW = map_BPC.transpose(1, 2).unflatten(-1, self.grid)
            if self.grid != grid:
                # Another shape is no whole multiple of the map: the nearest rows would be drawn out unevenly.
                mode = "nearest" if grid[0] == grid[1] else "bilinear"
                map_BCHW = F.interpolate(map_BCHW, size=grid, mode=mode)
        return Prompt(sequence_BLW=sequence_BLW, mask_BL=mask_BL, pooled_BE=pooled_BE, map_BCHW=map_BCHW)

    def _sequence(self, x_BPD: Tensor, dropped_B: Tensor, kept_B11: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.shape.attended:
            return x_BPD, None  # a UNet without attention blocks ignores it
        sequence_BLW = torch.cat([self.get_submodule(name)(x_BPD) for name in self.cross_names], dim=-1)
        if self.shape.null_condition == "zeros":
            return sequence_BLW * kept_B11, None
        # Stored null text (77 rows for SD 1.5), padded to the patches' length behind a key mask, as released.
        length = max(sequence_BLW.shape[1], self.null_embedding.shape[0])
        null_LW = F.pad(self.null_embedding, (0, 0, 0, length - self.null_embedding.shape[0])).to(sequence_BLW.dtype)
        rank_L = torch.arange(length, device=x_BPD.device)
        used_B = torch.where(dropped_B, self.null_embedding.shape[0], x_BPD.shape[1])
        sequence_BLW = F.pad(sequence_BLW, (0, 0, 0, length - sequence_BLW.shape[1]))
        return torch.where(dropped_B[:, None, None], null_LW, sequence_BLW), rank_L < used_B[:, None]

    def size_ids(self, count: int, device: torch.device, size_px: tuple[int, int] | None = None) -> Tensor:
        """Return SDXL's six size ids [B, 6]: original height and width, crop 0, 0, target height and width.

        They are the square's unless `size_px` (height, width) is given, in both branches of guidance (as released).
        """
        height, width = size_px or (self.image_px, self.image_px)
        ids = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=device)
        return ids.expand(count, 6)

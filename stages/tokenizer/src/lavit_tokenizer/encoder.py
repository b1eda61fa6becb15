"""Frozen image encoder: a vision network with what one must know to use it.

The feature is the last block's output before its final norm, unless settings ask for another; class and register tokens
are dropped, as released.
Letters: B images, P patches, D width, R width of own rows.
"""

import torch.nn.functional as F
from lavit_core.images import Preprocessing
from torch import Tensor, nn

from lavit_tokenizer.patch_features import PatchReader
from lavit_tokenizer.small_vit import SmallVit


class Encoder(nn.Module):
    """A vision network with its preprocessing, patch grid (rows, columns) and feature width."""

    def __init__(
        self,
        network: nn.Module,
        *,
        preprocessing: Preprocessing,
        grid: tuple[int, int],
        feature_dim: int,
        num_prefix: int,
        reader: PatchReader | None = None,
    ) -> None:
        """Take a small ViT, or a network of transformers with its `reader`."""
        super().__init__()
        self.network = network
        self.preprocessing, self.grid, self.feature_dim = preprocessing, grid, feature_dim
        self.num_prefix, self.reader = num_prefix, reader

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """Return features [B, P, D] of normalised pixels, in raster order."""
        if isinstance(self.network, SmallVit):
            return self.network(pixels_B3HW)
        assert self.reader is not None, "a network of transformers needs a reader"
        tokens_BND = self.reader.tokens(self.network, pixels_B3HW.to(next(self.network.parameters()).dtype))
        rows, columns = self.grid
        return tokens_BND[:, self.num_prefix : self.num_prefix + rows * columns].float()

    def own_rows(self, pixels_B3HW: Tensor) -> Tensor:
        """Return what each patch shows before any attention, [B, P, R], of normalised pixels.

        R is the small ViT's width, whose convolutions see a few pixels across a patch's border; for other networks the
        rows are the patch's pixels, R = 3 * patch^2.
        """
        if isinstance(self.network, SmallVit):
            return self.network.stem_rows(pixels_B3HW)
        assert self.reader is not None, "a network of transformers needs a reader"
        (rows, columns), side = self.grid, self.reader.patch_px
        inside = pixels_B3HW[:, :, : rows * side, : columns * side]
        return F.unfold(inside, side, stride=side).transpose(1, 2)


def small_encoder(network: SmallVit) -> Encoder:
    """Return a small ViT as an encoder."""
    config = network.config
    return Encoder(
        network, preprocessing=config.preprocessing, grid=config.grid, feature_dim=config.width, num_prefix=0
    )

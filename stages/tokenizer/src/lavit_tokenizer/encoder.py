"""Frozen image encoder: a vision network with what one must know to use it.

The feature is the last block's output before its final norm; class and register tokens are dropped, as released.
Letters: B images, P patches, D width, R width of own rows.
"""

import torch.nn.functional as F
from lavit_core.images import Preprocessing
from torch import Tensor, nn

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
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocessing, self.grid, self.feature_dim = preprocessing, grid, feature_dim
        self.num_prefix = num_prefix

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """Return features [B, P, D] of normalised pixels, in raster order."""
        if isinstance(self.network, SmallVit):
            return self.network(pixels_B3HW)
        dtype = next(self.network.parameters()).dtype
        hidden = self.network(pixel_values=pixels_B3HW.to(dtype), output_hidden_states=True).hidden_states[-1]
        return hidden[:, self.num_prefix :].float()

    def own_rows(self, pixels_B3HW: Tensor) -> Tensor:
        """Return what each patch shows before any attention, [B, P, R], of normalised pixels.

        R is the small ViT's width, whose convolutions see a few pixels across a patch's border; for other networks the
        rows are the patch's pixels, R = 3 * patch^2.
        """
        if isinstance(self.network, SmallVit):
            return self.network.stem_rows(pixels_B3HW)
        rows, columns = self.grid
        side = int(self.network.config.patch_size)  # type: ignore[union-attr, arg-type]
        inside = pixels_B3HW[:, :, : rows * side, : columns * side]
        return F.unfold(inside, side, stride=side).transpose(1, 2)


def small_encoder(network: SmallVit) -> Encoder:
    """Return a small ViT as an encoder."""
    config = network.config
    return Encoder(
        network, preprocessing=config.preprocessing, grid=config.grid, feature_dim=config.width, num_prefix=0
    )

"""How much a patch's squared error counts: its energy to the power `energy_power`.

Letters: B images, P patches (rows x columns H x W), D feature width.
"""

import torch.nn.functional as F
from torch import Tensor

from lavit_tokenizer.config import TrainTokenizerConfig


def patch_weights(target_BPD: Tensor, grid: tuple[int, int], config: TrainTokenizerConfig) -> Tensor:
    """Return the weight float32 [B, P] of each patch of target features on a grid (rows, columns)."""
    x_BPD = target_BPD.float()
    energy_BP = x_BPD.square().sum(dim=-1) if config.patch_energy == "feature" else contrast(x_BPD, grid)
    return energy_BP.pow(config.energy_power)


def contrast(x_BPD: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the contrast [B, P]: the squared distance of a patch's feature from the mean of the eight around it.

    At the border of an image the outer patches are repeated.
    """
    map_BDHW = x_BPD.transpose(1, 2).unflatten(-1, grid)
    nine_BDHW = F.avg_pool2d(F.pad(map_BDHW, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    # The mean of nine holds the patch itself: the distance from it is 8/9 of that from the mean of the eight around.
    return (9 / 8 * (map_BDHW - nine_BDHW)).square().sum(dim=1).flatten(1)


def weighted_energy(weight_BP: Tensor, target_BPD: Tensor) -> Tensor:
    """Return what the normalised squared error is divided by: the sum of the patches' weighted energies."""
    return (weight_BP * target_BPD.float().square().sum(dim=-1)).sum()

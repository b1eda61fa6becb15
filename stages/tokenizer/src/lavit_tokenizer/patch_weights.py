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
    """Return the contrast [B, P]: the geometric mean of two squared distances of a patch's feature.

    One is from the mean feature of its image, the other from the mean of the patches around it (eight; at the border
    the outer ones are repeated).
    """
    from_image_BP = (x_BPD - x_BPD.mean(dim=1, keepdim=True)).square().sum(dim=-1)
    map_BDHW = x_BPD.transpose(1, 2).unflatten(-1, grid)
    nine_BDHW = F.avg_pool2d(F.pad(map_BDHW, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    # The mean of nine holds the patch itself: its distance is 8/9 of that from the eight around.
    from_around_BP = (9 / 8 * (map_BDHW - nine_BDHW)).square().sum(dim=1).flatten(1)
    return (from_image_BP * from_around_BP).sqrt()


def weighted_energy(weight_BP: Tensor, target_BPD: Tensor) -> Tensor:
    """Return what the normalised squared error is divided by: the sum of the patches' weighted energies."""
    return (weight_BP * target_BPD.float().square().sum(dim=-1)).sum()

"""Weights of patches: their energy, or their contrast."""

import pytest
import torch
from lavit_tokenizer.patch_weights import contrast, patch_weights, weighted_energy

from .conftest import tokenizer_settings


def test_contrast_is_its_formula_patch_by_patch():
    x_BPD = torch.randn(2, 12, 5)
    found = contrast(x_BPD, (3, 4))
    for image, row, column in [(0, 1, 1), (1, 1, 2), (0, 0, 0), (1, 2, 3)]:
        around = [
            x_BPD[image, min(max(row + down, 0), 2) * 4 + min(max(column + right, 0), 3)]
            for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)
        ]  # fmt: skip
        own = x_BPD[image, row * 4 + column]
        expected = (own - torch.stack(around).mean(0)).square().sum()
        torch.testing.assert_close(found[image, row * 4 + column], expected)


def test_a_bright_plain_region_has_energy_and_no_contrast():
    x_BPD = torch.zeros(1, 64, 3)
    x_BPD[:, :32] = 5.0  # the upper half: sky
    x_BPD[:, 44, 0] = 3.0  # one patch of detail below it
    energy = patch_weights(x_BPD, (8, 8), tokenizer_settings(energy_power=1.0))[0]
    local = patch_weights(x_BPD, (8, 8), tokenizer_settings(energy_power=1.0, patch_energy="contrast"))[0]
    assert energy[:24].min() > energy[44]
    assert not local[:24].any()
    assert local[44] > 0


@pytest.mark.parametrize("kind", ["feature", "contrast"])
def test_power_0_weighs_all_patches_alike(kind):
    x_BPD = torch.randn(2, 16, 8)
    weights = patch_weights(x_BPD, (4, 4), tokenizer_settings(energy_power=0.0, patch_energy=kind))
    assert torch.equal(weights, torch.ones(2, 16))
    torch.testing.assert_close(weighted_energy(weights, x_BPD), x_BPD.square().sum())

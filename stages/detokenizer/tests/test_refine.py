"""The refiner: convolutions on the pixel grid that see across the borders of the UNet's squares."""

import pytest
import torch
from lavit_detokenizer.config import DrawSettings
from lavit_detokenizer.draw import draw
from lavit_detokenizer.refine import Refiner

from .conftest import random_detokenizer


def awake(refiner: Refiner) -> Refiner:
    """Give the last convolution, which starts at zero, random weights."""
    with torch.no_grad():
        for parameter in refiner.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return refiner


def test_an_untrained_refiner_changes_nothing():
    plain, refined = random_detokenizer(), random_detokenizer(refine_channels=4, refine_layers=3)
    sample, levels, dropped = torch.randn(2, 48, 4, 4), torch.tensor([500, 20]), torch.tensor([True, False])
    features = torch.randn(2, 16, 16)
    # The other weights are drawn as they are without a refiner, so that every pixel is the same.
    one, other = (made.denoiser(sample, levels, features, dropped) for made in (plain, refined))
    assert torch.equal(one, other)
    drawn = [draw(made, features, seeds=[0, 1], settings=DrawSettings(num_steps=2)) for made in (plain, refined)]
    assert (drawn[0] == drawn[1]).all()


def test_the_last_convolution_learns_first():
    refiner = Refiner(4, layers=2, unshuffle=4)
    refiner(torch.randn(2, 48, 4, 4)).square().mean().backward()
    assert float(refiner.convs[-1].weight.grad.abs().max()) > 0
    for earlier in (refiner.expand, refiner.convs[0]):
        assert float(earlier.weight.grad.abs().max()) == 0


@pytest.mark.parametrize("layers", [2, 3])
def test_a_pixel_sees_the_squares_that_its_convolutions_reach(layers):
    refiner = awake(Refiner(4, layers=layers, unshuffle=4))
    predicted = torch.randn(1, 48, 4, 4, requires_grad=True)
    refined = torch.nn.functional.pixel_shuffle(refiner(predicted), 4)
    for row in range(8, 12):  # of the third square
        (read,) = torch.autograd.grad(refined[0, 0, row, 8], predicted, retain_graph=True)
        seen = read[0].abs().sum(dim=(0, 2)).nonzero()[:, 0].tolist()
        assert seen == list(range((row - layers) // 4, (row + layers) // 4 + 1))

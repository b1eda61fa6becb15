"""The merger: packed and masked, the released softmax, no blocks."""

import pytest
import torch
from lavit_tokenizer.quantizer import nearest

from .conftest import images, keep_masks, make_tokenizer


@pytest.mark.parametrize("extremes", [False, True])
def test_packed_equals_masked(extremes):
    merger, keep = make_tokenizer().merger, keep_masks(extremes=extremes)
    x_BPD = torch.randn(6, 16, 16, generator=torch.Generator().manual_seed(0))
    packed, masked = merger(x_BPD, keep), merger.forward_masked(x_BPD, keep.float())
    # fp32: sums in another order; measured 4e-7.
    assert (packed - masked[keep]).norm() / packed.norm() < 1e-5


def test_packed_and_masked_give_the_same_codes():
    tokenizer, keep = make_tokenizer(), keep_masks()
    x_BPD = torch.randn(6, 16, 16, generator=torch.Generator().manual_seed(0))
    packed, masked = (
        tokenizer.project(rows)
        for rows in (tokenizer.merger(x_BPD, keep), tokenizer.merger.forward_masked(x_BPD, keep.float())[keep])
    )
    assert torch.equal(nearest(packed, tokenizer.quantizer.codebook), nearest(masked, tokenizer.quantizer.codebook))


def test_released_softmax_is_the_masked_form_with_its_leak():
    exact, leaky = make_tokenizer(), make_tokenizer(released_softmax=True)
    x_BPD, keep = exact.select(images(6))
    masked = leaky.merger.forward_masked(x_BPD, keep.float(), released_eps=1e-6)
    assert torch.equal(leaky.merger(x_BPD, keep), masked[keep])
    assert not torch.equal(leaky.merger(x_BPD, keep), exact.merger(x_BPD, keep))


def test_a_merger_without_blocks_returns_the_kept_features():
    tokenizer = make_tokenizer(merger_layers=0)
    encoded = tokenizer.encode(images(6), return_intermediates=True)
    expected = tokenizer.merger.norm(tokenizer.merger.place(encoded.intermediates.features))[encoded.keep_mask]
    assert torch.equal(encoded.merged, expected)

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


@pytest.mark.parametrize(("held_from", "exact"), [(0, False), (1, False), (2, True)])
def test_released_softmax_needs_the_dropped_rows_of_every_block_but_the_last(held_from: int, exact: bool) -> None:
    """Where closed keys stand out, dropped rows that are no longer computed change the kept ones."""
    merger, keep = make_tokenizer(released_softmax=True, merger_layers=3).merger, keep_masks()
    x_BPD = torch.randn(6, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for block in merger.blocks:
            block.token_causal_attn.qkv.weight[:32].mul_(6)  # queries and keys
        expected, rows_BPD = merger(x_BPD, keep), merger.place(x_BPD)
        kept = keep.float()[:, None, None, :]
        causal = (kept + (1 - kept) * torch.eye(16)) * torch.ones(16, 16).tril()
        for place, block in enumerate(merger.blocks):
            computed = block.forward_masked(rows_BPD, merger.ln_vision(merger.place(x_BPD)), causal, 1 - kept, 1e-6)
            rows_BPD = torch.where(keep[..., None], computed, rows_BPD) if place >= held_from else computed
        found = merger.norm(rows_BPD)[keep]
    difference = float((found - expected).norm() / expected.norm())
    assert difference == 0 if exact else difference > 1e-3


def test_a_merger_without_blocks_returns_the_kept_features():
    tokenizer = make_tokenizer(merger_layers=0)
    encoded = tokenizer.encode(images(6), return_intermediates=True)
    expected = tokenizer.merger.norm(tokenizer.merger.place(encoded.intermediates.features))[encoded.keep_mask]
    assert torch.equal(encoded.merged, expected)

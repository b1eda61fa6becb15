"""The feature decoder: packed and masked, gradients to the bit."""

import pytest
import torch
from lavit_tokenizer.decoder import FeatureDecoder

from .conftest import keep_masks, make_tokenizer


@pytest.mark.parametrize("extremes", [False, True])
def test_packed_equals_masked(extremes):
    decoder, keep = make_tokenizer().decoder, keep_masks(extremes=extremes)
    z_BPC = torch.randn(6, 16, 8, generator=torch.Generator().manual_seed(0))
    decoded, reference = decoder(z_BPC[keep], keep.sum(1)), decoder.forward_masked(z_BPC, keep.float())
    # fp32: sums in another order; measured 4e-7.
    assert (decoded - reference).norm() / reference.norm() < 1e-5


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("way", ["packed", "masked"])
def test_queries_attend_once_before_they_have_read_codes(way, images):
    """The first block's self-attention sees one image's queries, and gives what all images' queries give."""
    torch.manual_seed(0)
    decoder = FeatureDecoder(32, layers=2, heads=4, mlp_dim=64, num_patches=16, code_dim=8)
    rows = []
    for block in decoder.blocks:
        block.self_attn.proj.register_forward_hook(lambda _module, given, _out: rows.append(given[0][..., 0].numel()))
    z, masks = torch.randn(images, 16, 8), torch.rand(images, 16) < 0.4
    decoded = decoder(z[masks], masks.sum(1)) if way == "packed" else decoder.forward_masked(z, masks.float())
    assert rows == [16, 16 * images]
    for image in range(images):
        alone = decoder(z[image][masks[image]], masks[image].sum()[None])[0]
        torch.testing.assert_close(decoded[image], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", ["packed", "masked"])
def test_gradients_repeat_to_the_bit_with_several_threads(way):
    """Images share the rows of the position table: their gradients must not be added in the order threads arrive in."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    decoder = FeatureDecoder(128, layers=1, heads=4, mlp_dim=64, num_patches=64, code_dim=8)
    masks = torch.rand(64, 64) < 0.3
    counts = masks.sum(1)
    z = torch.randn(64, 64, 8)
    found = []
    try:
        torch.set_num_threads(2)
        for _ in range(10):
            decoder.zero_grad()
            decoded = decoder(z[masks], counts) if way == "packed" else decoder.forward_masked(z, masks.float())
            decoded.square().sum().backward()
            found.append({name: value.grad.clone() for name, value in decoder.named_parameters()})
    finally:
        torch.set_num_threads(threads)
    for again in found[1:]:
        assert [name for name, grad in again.items() if not torch.equal(grad, found[0][name])] == []

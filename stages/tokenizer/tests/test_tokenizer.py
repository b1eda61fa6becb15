"""Encoding and decoding, and the released structure."""

import itertools

import pytest
import torch
from lavit_core.errors import InputError, UsageError
from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.quantizer import nearest

from .conftest import images, make_tokenizer


def test_counts_vary_and_fit_together():
    encoded = make_tokenizer().encode(images(32))
    assert encoded.counts.unique().numel() > 1
    assert torch.equal(encoded.counts, encoded.keep_mask.sum(1))
    assert encoded.codes.shape == (int(encoded.counts.sum()),)
    assert encoded.merged.shape == (int(encoded.counts.sum()), 16)
    assert encoded.codes.dtype == torch.int64
    assert encoded.merged.dtype == torch.float32
    decoded = make_tokenizer().decode_codes(encoded.codes, encoded.counts)
    assert decoded.shape == (32, 16, 16)


def test_sampling_depends_on_key_and_seed_alone():
    tokenizer, pixels = make_tokenizer(), images(4)
    keys = ["a", "b", "c", "d"]
    whole = tokenizer.encode(pixels, selection="sample", seed=1, keys=keys).keep_mask
    single = tokenizer.encode(pixels[2:3], selection="sample", seed=1, keys=["c"]).keep_mask
    assert torch.equal(whole[2:3], single)
    assert not torch.equal(whole, tokenizer.encode(pixels, selection="sample", seed=2, keys=keys).keep_mask)
    with pytest.raises(UsageError, match="expected the images' keys"):
        tokenizer.encode(pixels, selection="sample")
    with pytest.raises(UsageError, match="selection: found 'best', expected threshold, topk, sample"):
        tokenizer.encode(pixels, selection="best")


def test_topk_keeps_the_same_number():
    encoded = make_tokenizer().encode(images(8), selection="topk")
    assert encoded.counts.unique().tolist() == [round(0.4 * 16)]


def test_exact_budgets_grow_by_the_next_best_patch():
    tokenizer, pixels = make_tokenizer(), images(8)
    masks = [tokenizer.encode(pixels, selection="topk", tokens=count).keep_mask for count in range(1, 17)]
    assert [mask.sum(1).unique().tolist() for mask in masks] == [[count] for count in range(1, 17)]
    assert all(bool((more | ~fewer).all()) for fewer, more in itertools.pairwise(masks))


@pytest.mark.parametrize(
    ("selection", "tokens", "message"),
    [
        ("topk", 17, "tokens: found 17, expected 1 to 16"),
        ("topk", 0, "tokens: found 0, expected a whole number of tokens an image, at least 1"),
        ("topk", 2.5, "tokens: found 2.5, expected a whole number"),
        ("topk", True, "tokens: found True, expected a whole number"),
        ("threshold", 4, "tokens: found 4 with selection 'threshold'; a number of tokens needs topk"),
        (None, 4, "tokens: found 4 with selection 'threshold'"),
    ],
)
def test_budgets_that_can_not_be_are_refused(selection, tokens, message):
    with pytest.raises(UsageError, match=message):
        make_tokenizer().encode(images(2), selection=selection, tokens=tokens)


def test_decode_codes_refuses_foreign_codes():
    tokenizer = make_tokenizer()
    with pytest.raises(InputError, match=r"codes are in \[0, 99\], expected \[0, 32\)"):
        tokenizer.decode_codes(torch.tensor([0, 99]), torch.tensor([2]))
    with pytest.raises(InputError, match="17 codes, expected at most 16"):
        tokenizer.decode_codes(torch.zeros(17, dtype=torch.int64), torch.tensor([17]))


def test_whitening_flattens_the_spectrum():
    tokenizer = make_tokenizer(whiten_power=0.5)
    raw = (
        torch.randn(4000, 16, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.linspace(0.1, 10, 16)) + 3
    )
    tokenizer.fit_whitening(raw)
    flat = tokenizer.whiten(raw)
    covariance = flat.T @ flat / len(flat)
    torch.testing.assert_close(covariance, torch.eye(16), atol=2e-3, rtol=0)
    untouched = make_tokenizer(whiten_power=0.0)
    assert untouched.whiten(raw) is raw


def test_published_structure_has_the_released_tensors():
    """Shapes at a small width: every released tensor has its counterpart, and nothing else is there."""
    tokenizer = make_tokenizer(merger_positions=False, whiten_power=0.0, merger_layers=1, decoder_layers=1)
    names = {name for name in tokenizer.state_dict() if name.startswith(("merger.", "selector.", "decoder."))}
    attention = [f"{part}.{kind}" for part in ("qkv", "proj") for kind in ("weight", "bias")]
    cross = [f"{part}.{kind}" for part in ("query", "key", "value", "proj") for kind in ("weight", "bias")]
    rest = [
        f"{part}.{kind}" for part in ("norm0", "norm1", "norm2", "mlp.fc1", "mlp.fc2") for kind in ("weight", "bias")
    ]
    both = ("weight", "bias")
    expected = {f"merger.{part}.{kind}" for part in ("ln_vision", "norm") for kind in both}
    expected |= {f"merger.blocks.0.token_causal_attn.{name}" for name in attention}
    expected |= {f"merger.blocks.0.token_cross_attn.{name}" for name in cross}
    expected |= {f"merger.blocks.0.{name}" for name in rest} | {f"decoder.blocks.0.{name}" for name in rest}
    expected |= {f"selector.in_conv.{i}.{kind}" for i in (0, 1) for kind in both}
    expected |= {f"selector.out_conv.{i}.{kind}" for i in (0, 2, 4) for kind in both}
    expected |= {f"decoder.blocks.0.self_attn.{name}" for name in attention}
    expected |= {f"decoder.blocks.0.cross_attn.{name}" for name in cross}
    expected |= {"decoder.pos_embed", "decoder.query_embed"}
    expected |= {
        f"decoder.{part}.{kind}"
        for part in ("in_proj", "norm", "decode_task_layer.0", "decode_task_layer.2")
        for kind in both
    }
    assert names == expected
    assert TokenizerConfig().codebook_size == 16384


def test_intermediates_are_those_of_encoding():
    tokenizer = make_tokenizer()
    encoded = tokenizer.encode(images(8), return_intermediates=True)
    assert tokenizer.encode(images(8)).intermediates is None
    steps = encoded.intermediates
    assert torch.equal(steps.features, tokenizer.features(images(8)))
    assert torch.equal(encoded.merged, tokenizer.merger(steps.features, encoded.keep_mask))
    assert torch.equal(steps.vectors, tokenizer.project(encoded.merged))
    assert torch.equal(encoded.codes, nearest(steps.vectors, tokenizer.quantizer.codebook))
    assert steps.vectors.norm(dim=-1).allclose(torch.ones(len(steps.vectors)))


def test_decoding_codes_is_decoding_their_vectors():
    tokenizer = make_tokenizer()
    encoded = tokenizer.encode(images(8), return_intermediates=True)
    decoded = tokenizer.decode_codes(encoded.codes, encoded.counts)
    assert torch.equal(decoded, tokenizer.decode_vectors(tokenizer.quantizer.codebook[encoded.codes], encoded.counts))
    assert not torch.equal(decoded, tokenizer.decode_vectors(encoded.intermediates.vectors, encoded.counts))


def test_a_tokenizer_without_feature_decoder_encodes_and_refuses_to_decode():
    tokenizer = make_tokenizer(decoder_layers=0)
    encoded = tokenizer.encode(images(2), return_intermediates=True)
    with pytest.raises(InputError, match="this tokenizer has no feature decoder"):
        tokenizer.decode_codes(encoded.codes, encoded.counts)
    with pytest.raises(InputError, match="this tokenizer has no feature decoder"):
        tokenizer.decode_vectors(encoded.intermediates.vectors, encoded.counts)

"""Encoding, decoding, storing a tokenizer."""

import copy

import pytest
import torch
from lavit_core.errors import InputError, UsageError
from lavit_core.modeldir import export_part, part_digest
from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.decoder import FeatureDecoder
from lavit_tokenizer.quantizer import nearest
from lavit_tokenizer.selector import Selector, select_sample, select_threshold, select_topk
from lavit_tokenizer.tokenizer_folder import load_tokenizer

from .conftest import make_tokenizer


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 16, 16, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


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


@pytest.mark.parametrize("bias", [-50.0, -3.0, 0.0, 3.0, 50.0])
@pytest.mark.parametrize("seed", range(5))
def test_never_zero_patches(bias, seed):
    torch.manual_seed(seed)
    selector = Selector(16)
    with torch.no_grad():
        selector.out_conv[4].bias.copy_(torch.tensor([bias, 0.0]))
        log_keep = selector(torch.randn(7, 16, 16) * 10)
    keys = [str(index) for index in range(7)]
    for keep in (
        select_threshold(log_keep, 0.5),
        select_threshold(log_keep, 1.0),
        select_topk(log_keep, 0),
        select_sample(log_keep, seed=seed, keys=keys),
    ):
        assert keep.shape == (7, 16)
        assert bool(keep.any(1).all())


def test_the_best_patch_is_kept_when_none_passes():
    log_keep = torch.log(torch.tensor([[0.1, 0.4, 0.2], [0.3, 0.2, 0.1]]))
    both = torch.stack([log_keep, torch.log1p(-log_keep.exp())], dim=-1)
    expected = [[False, True, False], [True, False, False]]
    assert select_threshold(both, 0.5).tolist() == expected
    assert select_topk(both, 1).tolist() == expected


def test_sampling_depends_on_key_and_seed_alone():
    tokenizer, pixels = make_tokenizer(), images(4)
    keys = ["a", "b", "c", "d"]
    whole = tokenizer.encode(pixels, selection="sample", seed=1, keys=keys).keep_mask
    single = tokenizer.encode(pixels[2:3], selection="sample", seed=1, keys=["c"]).keep_mask
    assert torch.equal(whole[2:3], single)
    assert not torch.equal(whole, tokenizer.encode(pixels, selection="sample", seed=2, keys=keys).keep_mask)
    with pytest.raises(UsageError, match="expected the images' keys"):
        tokenizer.encode(pixels, selection="sample")
    with pytest.raises(UsageError, match="selection best: expected threshold, topk or sample"):
        tokenizer.encode(pixels, selection="best")


def test_topk_keeps_the_same_number():
    encoded = make_tokenizer().encode(images(8), selection="topk")
    assert encoded.counts.unique().tolist() == [round(0.4 * 16)]


def test_decode_codes_refuses_foreign_codes():
    tokenizer = make_tokenizer()
    with pytest.raises(InputError, match=r"codes are in \[0, 99\], expected \[0, 32\)"):
        tokenizer.decode_codes(torch.tensor([0, 99]), torch.tensor([2]))
    with pytest.raises(InputError, match="17 codes, expected at most 16"):
        tokenizer.decode_codes(torch.zeros(17, dtype=torch.int64), torch.tensor([17]))


def test_store_and_load(model):
    loaded, pixels = load_tokenizer(model, device="cpu"), images(4)
    assert loaded.loaded.digest == part_digest(model / "tokenizer")
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    original = make_tokenizer().encode(pixels)
    again = loaded.encode(pixels)
    assert torch.equal(original.codes, again.codes)
    assert torch.equal(original.merged, again.merged)


def test_a_part_of_it_does_what_the_whole_does(model):
    whole, pixels = load_tokenizer(model, device="cpu"), images(4)
    encoded = whole.encode(pixels)
    encoder = load_tokenizer(model, device="cpu", use="encode")
    assert torch.equal(encoder.encode(pixels).codes, encoded.codes)
    decoder = load_tokenizer(model, device="cpu", use="decode")
    features = whole.decode_codes(encoded.codes, encoded.counts)
    assert torch.equal(decoder.decode_codes(encoded.codes, encoded.counts), features)
    assert decoder.loaded.digest == encoder.loaded.digest == whole.loaded.digest
    present = {use: {name.partition(".")[0] for name in part.state_dict()} for use, part in
               (("all", whole), ("encode", encoder), ("decode", decoder))}  # fmt: skip
    assert present["all"] - present["encode"] == {"decoder"}
    assert present["all"] - present["decode"] == {"encoder", "selector", "merger", "encode_task_layer"}


def test_bf16_keeps_selection_in_fp32_and_copies_stay_separate(model):
    exact, half = load_tokenizer(model, device="cpu"), load_tokenizer(model, device="cpu", precision="bf16")
    x_BPD, keep = exact.select(images(4))
    assert torch.equal(select_threshold(half.selector(x_BPD), half.config.keep_threshold), keep)
    assert half.encode(images(4)).merged.dtype == torch.float32
    merger = copy.deepcopy(half.merger)
    with torch.no_grad():
        merger.norm.weight.zero_()
    assert float(half.merger(x_BPD, keep).abs().sum()) > 0


def test_damaged_folders_are_refused(model):
    weights = model / "tokenizer" / "model.safetensors"
    config = model / "tokenizer" / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"codebook_size": 32', '"codebook_size": 64'))
    with pytest.raises(InputError, match=r"of another shape \(quantizer.codebook is \(32, 8\), expected \(64, 8\)"):
        load_tokenizer(model, device="cpu")
    config.write_text(text.replace('"feature_dim": 16', '"feature_dim": 24'))
    with pytest.raises(InputError, match=r"width and grid are \(16, \(4, 4\)\), expected \(24"):
        load_tokenizer(model, device="cpu")
    config.write_text(text)
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_tokenizer(model, device="cpu")
    weights.unlink()
    with pytest.raises(InputError, match=r"model.safetensors: file not found"):
        load_tokenizer(model, device="cpu")


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


def test_released_softmax_is_the_masked_form_with_its_leak():
    exact, leaky = make_tokenizer(), make_tokenizer(released_softmax=True)
    x_BPD, keep = exact.select(images(6))
    masked = leaky.merger.forward_masked(x_BPD, keep.float(), released_eps=1e-6)
    assert torch.equal(leaky.merger(x_BPD, keep), masked[keep])
    assert not torch.equal(leaky.merger(x_BPD, keep), exact.merger(x_BPD, keep))


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


def test_a_tokenizer_s_own_selection_is_what_callers_get_who_say_nothing(model):
    plain, fixed = (load_tokenizer(model, device="cpu", selection=policy) for policy in ("threshold", "topk"))
    some = images(12)
    assert torch.equal(plain.encode(some).keep_mask, plain.encode(some, selection="threshold").keep_mask)
    assert fixed.encode(some).counts.unique().tolist() == [6]  # 0.4 of 16
    assert torch.equal(fixed.encode(some, selection="threshold").codes, plain.encode(some).codes)
    # A model directory whose language model learned from files of `topk` tokens reads such.
    with export_part(model, "llm", metadata={"selection": "topk"}) as folder:
        (folder / "config.json").write_text("{}")
    assert load_tokenizer(model, device="cpu").encode(some).counts.unique().tolist() == [6]
    drawn = load_tokenizer(model, device="cpu", selection="sample")
    whole = drawn.encode(some).keep_mask
    assert torch.equal(whole[3:5], drawn.encode(some[3:5]).keep_mask)  # seeded by the image, not by its neighbours
    assert not torch.equal(whole, plain.encode(some).keep_mask)


def test_no_merger_hands_kept_features_on():
    tokenizer = make_tokenizer(merger_layers=0)
    encoded = tokenizer.encode(images(6), return_intermediates=True)
    expected = tokenizer.merger.norm(tokenizer.merger.place(encoded.intermediates.features))[encoded.keep_mask]
    assert torch.equal(encoded.merged, expected)


def test_a_tokenizer_without_feature_decoder_encodes_and_refuses_to_decode():
    tokenizer = make_tokenizer(decoder_layers=0)
    encoded = tokenizer.encode(images(2), return_intermediates=True)
    with pytest.raises(InputError, match="this tokenizer has no feature decoder"):
        tokenizer.decode_codes(encoded.codes, encoded.counts)
    with pytest.raises(InputError, match="this tokenizer has no feature decoder"):
        tokenizer.decode_vectors(encoded.intermediates.vectors, encoded.counts)


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

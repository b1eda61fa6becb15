"""Storing and loading a tokenizer, whole or half of it."""

import copy
import json

import pytest
import torch
from lavit_core.errors import InputError, UsageError
from lavit_core.modeldir import export_part, part_digest
from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.selector import select_threshold
from lavit_tokenizer.tokenizer_folder import STORED_IF_SET, STORED_KEYS, load_tokenizer, read_tokenizer, write_tokenizer

from .conftest import images, make_tokenizer


def test_a_stored_tokenizer_loads_to_the_same_codes(model):
    loaded, pixels = load_tokenizer(model, device="cpu"), images(4)
    assert loaded.loaded.digest == part_digest(model / "tokenizer")
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    original = make_tokenizer().encode(pixels)
    again = loaded.encode(pixels)
    assert torch.equal(original.codes, again.codes)
    assert torch.equal(original.merged, again.merged)


def test_each_half_equals_the_whole(model):
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
    assert float(half.encode_kept(x_BPD, keep).merged.abs().sum()) > 0


def test_bf16_holds_linear_layers_as_autocast_would_cast_them(model):
    pixels, low = images(4), load_tokenizer(model, device="cpu", precision="bf16")
    cast = load_tokenizer(model, device="cpu")
    cast.loaded = low.loaded  # autocast alone
    dtypes = {name: value.dtype for name, value in low.state_dict().items() if value.dtype == torch.bfloat16}
    assert {name.partition(".")[0] for name in dtypes} == {"encoder", "merger", "decoder"}
    found, expected = low.encode(pixels), cast.encode(pixels)
    assert torch.equal(found.merged, expected.merged)
    assert torch.equal(found.codes, expected.codes)
    decoded = [one.decode_codes(found.codes, found.counts) for one in (low, cast)]
    assert torch.equal(*decoded)


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
    with pytest.raises(InputError, match=r"model.safetensors: 100 bytes, expected \d+ bytes"):
        load_tokenizer(model, device="cpu")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_tokenizer(model / "tokenizer")
    weights.unlink()
    with pytest.raises(InputError, match=r"model.safetensors: file not found"):
        read_tokenizer(model / "tokenizer")


def test_selection_defaults_to_that_of_the_model_directory(model):
    plain, fixed = (load_tokenizer(model, device="cpu", selection=policy) for policy in ("threshold", "topk"))
    some = images(12)
    assert torch.equal(plain.encode(some).keep_mask, plain.encode(some, selection="threshold").keep_mask)
    assert fixed.encode(some).counts.unique().tolist() == [6]  # 0.4 of 16
    assert torch.equal(fixed.encode(some, selection="threshold").codes, plain.encode(some).codes)
    # A model directory whose language model learned from files of `topk` tokens reads such.
    with export_part(model, "llm", metadata={"selection": "topk"}) as folder:
        (folder / "config.json").write_text("{}")
    assert load_tokenizer(model, device="cpu").encode(some).counts.unique().tolist() == [6]
    with export_part(model, "llm", metadata={"selection": "topk", "selection_tokens": 9}) as folder:
        (folder / "config.json").write_text("{}")
    assert load_tokenizer(model, device="cpu").encode(some).counts.unique().tolist() == [9]
    assert load_tokenizer(model, device="cpu").encode(some, tokens=3).counts.unique().tolist() == [3]
    assert load_tokenizer(model, device="cpu", tokens=4).encode(some).counts.unique().tolist() == [4]
    for given, message in (
        ({"tokens": 17}, "found 17, expected 1 to 16"),
        ({"tokens": 4, "selection": "threshold"}, "found 4 with selection 'threshold'"),
    ):
        with pytest.raises(UsageError, match=message):
            load_tokenizer(model, device="cpu", **given)
    drawn = load_tokenizer(model, device="cpu", selection="sample")
    whole = drawn.encode(some).keep_mask
    assert torch.equal(whole[3:5], drawn.encode(some[3:5]).keep_mask)  # seeded by the image, not by its neighbours
    assert not torch.equal(whole, plain.encode(some).keep_mask)


def test_config_json_keeps_its_keys_in_order(model):
    """The digest covers the file's bytes."""
    stored = json.loads((model / "tokenizer" / "config.json").read_text())
    assert tuple(stored) == STORED_KEYS
    assert {*STORED_KEYS, *STORED_IF_SET} == set(TokenizerConfig.model_fields)
    assert list(stored)[:4] == ["format", "preprocessing", "grid", "feature_dim"]


def test_a_factorised_codebook_is_stored_and_loaded(tmp_path):
    original, pixels = make_tokenizer(codebook_size=32, codebook_factors=(8, 4)), images(4)
    write_tokenizer(original, tmp_path / "tokenizer")
    loaded = read_tokenizer(tmp_path / "tokenizer").eval()
    assert loaded.config.codebook_factors == (8, 4)
    encoded, again = original.encode(pixels), loaded.encode(pixels)
    assert torch.equal(encoded.codes, again.codes)
    assert 4 <= int(encoded.codes.max()) < 32
    assert torch.equal(
        original.decode_codes(encoded.codes, encoded.counts), loaded.decode_codes(again.codes, again.counts)
    )
    with pytest.raises(InputError, match=r"codes are in \[0, 32\], expected \[0, 32\)"):
        loaded.decode_codes(torch.tensor([0, 32]), torch.tensor([2]))

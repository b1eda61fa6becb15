"""LoRA over a base in 4 or 8 bits: what trains, what is merged, kills, and what is refused without bitsandbytes."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lavit_core.errors import InputError, UsageError
from lavit_pretrain.attention import disable_dropout
from lavit_pretrain.config import LlmShape, PretrainConfig
from lavit_pretrain.document_isolation import choose_attention
from lavit_pretrain.lora import add_lora, merge_lora
from lavit_pretrain.packed_loss import packed_loss
from lavit_pretrain.packing import collate
from lavit_pretrain.quantised_base import base_layers, check_bits, dequantised, quantise_base, restore_base
from lavit_pretrain.train_language_model import train_language_model
from lavit_trainkit.testing import Killed, have_equal_weights, kill_at_step, metrics_of

from .families import make, network_of
from .test_document_isolation import SHAPES, documents
from .test_lora import LORA, logits, train

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)

WIDE = {**SHAPES["llama"], "hidden_size": 64, "head_dim": 32, "intermediate_size": 128}
WIDE_NEW = LlmShape(
    hidden_size=64, num_layers=2, num_heads=2, intermediate_size=128, max_positions=128, text_vocab_size=400
)
"""Rows of whole blocks of 64."""


@needs_bitsandbytes
@pytest.mark.parametrize("bits", [4, 8])
def test_adapters_train_over_few_bits_and_merge_into_what_they_trained_over(bits: int) -> None:
    network = network_of(make("llama", **(WIDE if bits == 4 else SHAPES["llama"]))).train()
    disable_dropout(network.llm)
    choose_attention(network, Path("llm"))
    add_lora(network.llm, LORA, network.vocabulary.text_vocab)
    plain = logits(network)
    before = {name: layer.weight.clone() for name, layer in base_layers(network.llm, bits).items()}
    assert len(before) >= 7
    quantise_base(network.llm, bits)
    packed = dict(network.llm.named_modules())
    for name, weight in before.items():
        error = (dequantised(packed[name]) - weight).abs().max()
        assert 0 < error < weight.abs().max() * (0.2 if bits == 4 else 0.02), name
    few = logits(network)
    assert 0 < (few - plain).abs().max() < plain.abs().max()
    with torch.no_grad():
        loss = packed_loss(network, collate(documents()))[0]
    train(network)
    with torch.no_grad():
        assert packed_loss(network, collate(documents()))[0] < loss
    unmerged = logits(network)
    restore_base(network.llm)
    merge_lora(network.llm)
    assert not [one for one in network.llm.modules() if "bit" in type(one).__name__.lower()]
    # Eight bits round what comes into a layer too, which merged weights do not.
    tolerance = 1e-4 if bits == 4 else 0.05
    torch.testing.assert_close(logits(network), unmerged, rtol=0, atol=tolerance * float(unmerged.abs().max()))


@needs_bitsandbytes
def test_rows_that_are_no_whole_blocks_stay_and_looking_changes_nothing() -> None:
    network = network_of(make("llama", **{**WIDE, "intermediate_size": 96})).train()
    add_lora(network.llm, LORA, network.vocabulary.text_vocab)
    names = set(base_layers(network.llm, 8)) - set(base_layers(network.llm, 4))
    assert names
    assert all("down_proj" in name for name in names)  # which reads 96 numbers
    quantise_base(network.llm, 4)
    layers = {name: one for name, one in network.llm.named_modules() if type(one).__name__ == "Linear4bit"}
    before = {name: dequantised(layer) for name, layer in layers.items()}
    network.llm.eval()
    with torch.no_grad():
        network.llm(torch.arange(9)[None])
    for name, weight in before.items():
        assert torch.equal(dequantised(layers[name]), weight), name


@needs_bitsandbytes
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_run_ends_like_an_uninterrupted_one(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:  # fmt: skip
    start = tiny_config(num_steps=2, llm=WIDE_NEW)
    train_language_model([world.tokens], world.model, tmp_path / "base", start, questions=[world.questions], quiet=True)
    llm = tmp_path / "base" / "model" / "llm"
    config = tiny_config(lora={"rank": 2, "bits": 4}, precision=precision)

    def adapt(out: Path) -> dict[str, Any]:
        return train_language_model(
            [world.tokens], world.model, out, config, questions=[world.questions], llm=llm, quiet=True
        )

    summary = adapt(tmp_path / "whole")
    assert summary["trained_parameters"] < summary["parameters"]
    with monkeypatch.context() as patch:
        kill_at_step(patch, 9)
        with pytest.raises(Killed):
            adapt(tmp_path / "killed")
    adapt(tmp_path / "killed")
    assert metrics_of(tmp_path / "killed") == metrics_of(tmp_path / "whole")
    assert have_equal_weights(tmp_path / "whole" / "model" / "llm", tmp_path / "killed" / "model" / "llm")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"lora": {"bits": 4}}, UsageError, "lora.bits: 4 without adapters"),
        ({"lora": {"rank": 2, "bits": 4, "use_dora": True}}, UsageError, "lora.bits: 4 with lora.use_dora"),
        ({"lora": {"rank": 2, "bits": 8}, "parallel": "fsdp"}, UsageError, "packed weights are not sharded"),
        ({"lora": {"rank": 2, "bits": 8}}, InputError, "needs bitsandbytes, which is not installed; run `pip install"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tiny_config: Callable[..., PretrainConfig], monkeypatch: pytest.MonkeyPatch, change: dict[str, Any],
    error: type[Exception], words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(error, match=words):
        check_bits(tiny_config(**change))

"""The cost of a step on the meta device, against what torch counts when such a step is taken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError
from lavit_pretrain.attention import use_packed
from lavit_pretrain.chunked_cross_entropy import chunked_cross_entropy
from lavit_pretrain.config import LlmShape, Mix, PretrainConfig
from lavit_pretrain.cost import Documents, expected_documents, pretrain_step
from lavit_pretrain.documents import Document
from lavit_pretrain.head import head_of
from lavit_pretrain.language_model import llama_config
from lavit_pretrain.packing import collate
from lavit_pretrain.plan import llm_on_meta_device, plan
from lavit_tokenizer.api import TokenizerConfig
from lavit_trainkit.cost import CARD_BYTES, count
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM

LENGTH, DOCUMENTS, VOCABULARY = 32, 8, 300
SHAPE = LlmShape(hidden_size=64, num_layers=3, num_heads=4, intermediate_size=160, text_vocab_size=100)
EXACT = Documents(length=LENGTH, scored=(LENGTH - 1) / LENGTH, images_read=0, read_rows=0)
"""Documents of one length, all scored but their first token."""


def config(**changes) -> PretrainConfig:
    values = {"image_input": "codes", "llm": SHAPE, "num_steps": 5, "tokens_per_step": LENGTH * DOCUMENTS}
    return PretrainConfig(**{**values, "precision": "fp32", **changes})


def taken(precision: str):
    """A network like the one that is planned, and a function that computes the loss of a step."""
    network = LlamaForCausalLM(llama_config(SHAPE, VOCABULARY)).train()
    network = network if precision == "fp32" else network.to(torch.bfloat16)
    use_packed(network)
    draw = np.random.default_rng(0)
    weights = np.append(np.float32(0), np.ones(LENGTH - 1, np.float32))
    batch = collate([
        Document(ids=draw.integers(0, VOCABULARY, LENGTH), weights=weights, kind="text") for _ in range(DOCUMENTS)
    ])  # fmt: skip

    def loss():
        rows = network.get_input_embeddings()(batch.ids_T)[None]
        hidden = network.model(
            inputs_embeds=rows, position_ids=batch.positions_T[None], cu_seq_lens_q=batch.bounds_B1, use_cache=False
        ).last_hidden_state[0]
        return chunked_cross_entropy(hidden[batch.rows_S], head_of(network), batch.targets_S, batch.weights_S)[0]

    return network, loss


def step_of(settings: PretrainConfig):
    return pretrain_step(settings, llm_on_meta_device(settings, None, 198), TokenizerConfig(), EXACT)


def test_planned_operations_are_those_of_a_step() -> None:
    _, loss = taken("fp32")
    counter = FlopCounterMode(display=False)
    with counter:
        loss().backward()
    # A fused kernel computes scores again in its backward pass.
    assert step_of(config()).flops == pytest.approx(counter.get_total_flops(), rel=0.03)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_planned_activations_are_those_of_a_step_without_attention_scores(precision: Any) -> None:
    network, loss = taken(precision)
    own, kept = {parameter.untyped_storage()._cdata for parameter in network.parameters()}, {}

    def pack(value):
        storage = value.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        loss()
    width = 4 if precision == "fp32" else 2
    head = VOCABULARY * 64 * width  # the head's gradient, which the loss makes in the forward pass
    scores = 3 * 4 * LENGTH * LENGTH * DOCUMENTS * width  # a CPU keeps them, a fused kernel does not
    expected = sum(storage.nbytes() for storage in kept.values()) - head - scores
    assert step_of(config(precision=precision)).activation_bytes == pytest.approx(expected, rel=0.15)


def test_checkpointing_keeps_less_and_computes_layers_again() -> None:
    plain, again = step_of(config()), step_of(config(gradient_checkpointing=True))
    assert plain.activation_bytes / 4 < again.activation_bytes < plain.activation_bytes / 2
    assert 1.2 * plain.flops < again.flops < 4 / 3 * plain.flops


def test_documents_follow_the_mix() -> None:
    settings = PretrainConfig(mix=Mix(text_to_image=1, image_to_text=1, questions=5, text=5), caption_drop=0.5)
    found = expected_documents(settings, mean_codes=94, caption=20, questions=False, text=False)
    drawn, read = 10 + 96, 96 + 21  # a caption in every second document; a caption and its end
    assert found.length == (drawn + read) / 2
    assert found.scored == pytest.approx((94 + 1 + 10 + 21) / (drawn + read))
    assert found.images_read * (drawn + read) == pytest.approx(1)
    blind = settings.model_copy(update={"image_input": "none"})
    assert expected_documents(blind, mean_codes=94, caption=20, questions=False, text=False).images_read == 0


def test_the_published_preset_is_planned_without_anything_at_hand() -> None:
    found = plan(PretrainConfig(gradient_checkpointing=True, tokens_per_step=16384, accumulate_steps=16), None)
    assert found["parameters"] == 6_872_649_728
    step = found["cost"]["steps"]["pretrain"]
    assert list(step["parameters"]) == ["llm", "projector", "encoder", "merger"]
    assert step["parameters"]["encoder"]["trained"] == 0
    # 16 bytes a parameter, 2 of a working copy and 2 of its gradients: no card of 80 GB holds it alone, 8 do in shards.
    assert step["memory_bytes"]["1"]["total"] > 20 * 6.8e9
    assert step["memory_bytes"]["8 fsdp"]["total"] < 40e9
    # 6 N D, a third more for checkpointing, and what the encoder adds.
    assert 6 < step["flops_per_step"] / (262_144 * 6.87e9) < 9
    json.dumps(found)


def test_a_plan_on_tokens_reads_them(world: Any, tiny_config: Callable[..., PretrainConfig]) -> None:
    settings = tiny_config(optimizer="muon")
    found = plan(settings, None, [world.tokens], world.model, questions=True, text=False)
    assert found["images"] == 48
    assert found["mean_codes"] < 6
    step = found["cost"]["steps"]["pretrain"]
    assert list(step["parameters"]) == ["llm", "projector"]
    held = pretrain_step(settings, llm_on_meta_device(settings, None, 24), TokenizerConfig(), EXACT).parts[0]
    assert 0 < held.num_muon < held.num_trained
    with pytest.raises(InputError, match="not a language model"):
        plan(settings, world.tokens, [world.tokens], world.model)
    with pytest.raises(InputError, match="not a tokenizer's configuration"):
        plan(tiny_config(image_input="live"), None, [world.tokens], world.model)


def test_lora_is_planned_with_what_fits_a_small_card(tmp_path: Path) -> None:
    llama_config(SHAPE, 100).save_pretrained(tmp_path)
    settings = config(lora={"rank": 4}, precision="bf16")
    found = plan(settings, tmp_path)
    counts = found["cost"]["steps"]["pretrain"]["parameters"]["llm"]
    rows = 2 * (2 + 16384) * 64  # tables of inputs and outputs
    assert counts["trained"] - rows == 3 * 4 * (4 * (64 + 64) + 3 * (64 + 160))
    assert counts["all"] - counts["trained"] == count(LlamaForCausalLM(llama_config(SHAPE, 100)))
    held = found["cost"]["steps"]["pretrain"]["memory_bytes"]["1"]
    assert held["weights"] == 4 * counts["trained"] + 2 * (counts["all"] - counts["trained"])
    # At the largest step the estimate is a card's memory, and one token more is above it.
    fits = found["fits_24_gb"]
    assert fits["with_gradient_checkpointing"] > fits["tokens_per_step"]
    for name, again in (("tokens_per_step", False), ("with_gradient_checkpointing", True)):
        full = settings.model_copy(update={"tokens_per_step": fits[name], "gradient_checkpointing": again})
        planned = plan(full, tmp_path)
        total = planned["cost"]["steps"]["pretrain"]["memory_bytes"]["1"]["total"]
        assert total == pytest.approx(CARD_BYTES, rel=1e-5)
        assert total <= CARD_BYTES
        # Asked for with recomputed layers from the start, it is the same.
        assert planned["fits_24_gb"]["tokens_per_step"] == pytest.approx(fits[name], rel=1e-4)
    assert "fits_24_gb" not in plan(config(), tmp_path)

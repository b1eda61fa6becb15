"""Packed documents against one document at a time, with tiny random models of many families."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lavit_core.errors import InputError
from lavit_pretrain.attention import disable_dropout, document_bounds, use_packed
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.document_isolation import require_isolation
from lavit_pretrain.text_tokenizer import train_text_tokenizer
from lavit_pretrain.train_language_model import train_language_model
from transformers import AutoConfig, AutoModelForCausalLM

LENGTHS = [11, 3, 8]
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}
QWEN2_WINDOW = {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 4}


def make(model_type, **shape):
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **(GPT2 if model_type == "gpt2" else SHAPE) | shape)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)  # attention that is far from uniform
    return model


ACCEPTED = [
    ("llama", {}),
    ("gpt2", {}),
    ("mistral", {"sliding_window": None}),
    ("mistral", {"sliding_window": 4}),
    ("qwen2", QWEN2_WINDOW),
    ("gemma3_text", {"sliding_window": 4}),
    ("phi3", {"sliding_window": 4}),
    ("starcoder2", {"sliding_window": 4}),
]


@torch.no_grad()
@pytest.mark.parametrize(("model_type", "shape"), ACCEPTED)
def test_packed_equals_one_document_at_a_time(model_type: str, shape: Any) -> None:
    model = make(model_type, **shape)
    require_isolation(model, Path("llm"))
    disable_dropout(model)
    model.train()  # as the loop calls it: GPT-2's attention would ask for dropout
    ids = torch.randint(1, 64, (sum(LENGTHS),), generator=torch.Generator().manual_seed(1))
    model.set_attn_implementation("sdpa")
    alone = torch.cat([model(input_ids=part[None], use_cache=False).logits[0] for part in ids.split(LENGTHS)])
    use_packed(model)
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    packed = model(
        input_ids=ids[None], position_ids=positions, cu_seq_lens_q=document_bounds(LENGTHS), use_cache=False
    ).logits[0]
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)


def test_the_window_is_what_makes_the_difference() -> None:
    wide, narrow = make("mistral", sliding_window=None), make("mistral", sliding_window=4)
    narrow.load_state_dict(wide.state_dict())
    hidden = []
    for model in (wide, narrow):
        use_packed(model)
        ids = torch.arange(1, 12)
        with torch.no_grad():
            hidden.append(model(input_ids=ids[None], cu_seq_lens_q=document_bounds([11]), use_cache=False).logits[0])
    torch.testing.assert_close(hidden[0][:4], hidden[1][:4], rtol=1e-4, atol=1e-4)
    assert (hidden[0][4:] - hidden[1][4:]).abs().max() > 0.1


REFUSED = [
    ("mamba", {"state_size": 4}, "a mamba model is recurrent"),
    ("rwkv", {"attention_hidden_size": 32}, "a rwkv model is recurrent"),
    ("jamba", {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False, "num_experts": 2},
     "a jamba model is recurrent"),
    ("lfm2", {"layer_types": ["conv", "full_attention"]}, "layers of kind conv, expected full_attention or sliding"),
    ("gpt_oss", {"sliding_window": 4, "num_local_experts": 2, "num_experts_per_tok": 1}, "does not apply s_aux"),
    ("xglm", {"d_model": 32, "num_layers": 2, "attention_heads": 2, "ffn_dim": 32}, r"relative difference [\d.]+, exp"),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "shape", "reason"), REFUSED)
def test_models_whose_documents_would_leak_are_refused_with_the_reason(
    model_type: str, shape: Any, reason: str
) -> None:
    model = make(model_type, **shape)
    with pytest.raises(InputError, match=reason) as caught:
        require_isolation(model, Path("llm"))
    assert "\n" not in str(caught.value)


def test_a_window_that_never_reaches_the_attention_function_is_refused() -> None:
    model = make("llama")
    model.config.sliding_window = 4096
    with pytest.raises(InputError, match="limits attention to the last 4096 tokens by a mask of its own"):
        require_isolation(model, Path("llm"))


def test_pretrain_refuses_a_recurrent_model_with_exit_code_3(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    make("mamba", vocab_size=300, state_size=4).save_pretrained(tmp_path / "llm")
    train_text_tokenizer(["a red circle"] * 3, 300).save_pretrained(tmp_path / "llm")
    with pytest.raises(InputError, match="llm: a mamba model is recurrent: it carries a state") as caught:
        train_language_model(
            [world.tokens], world.model, tmp_path / "run", tiny_config(), llm=tmp_path / "llm", quiet=True
        )
    assert caught.value.exit_code == 3

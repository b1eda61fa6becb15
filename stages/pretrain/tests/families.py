"""Tiny random language models of many families, and what `lavit pretrain --llm` does with them (docs/parts.md)."""

from typing import Any

import torch
from lavit_pretrain.language_model import LanguageModel, VisualConfig
from lavit_pretrain.text_tokenizer import train_text_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

WINDOW = 4
"""Sliding windows and chunks are shorter than the documents of the tests."""

_COMMON = {"vocab_size": 264, "pad_token_id": 0}
_LLAMA = {
    **_COMMON,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
}
_GPT2 = {**_COMMON, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "n_inner": 32}
_XGLM = {**_COMMON, "d_model": 32, "num_layers": 2, "attention_heads": 2, "ffn_dim": 32}
_EXPERTS = {**_LLAMA, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_OPT = {key: value for key, value in _LLAMA.items() if key not in ("intermediate_size", "head_dim")}
_FALCON = {**_OPT, "num_key_value_heads": 2}
_DEEPSEEK = {key: value for key, value in _EXPERTS.items() if key != "head_dim"} | {
    "num_key_value_heads": 2,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
_CHUNKS = {"attention_chunk_size": WINDOW, "no_rope_layers": [1, 1], "intermediate_size_mlp": 32}
_VISION = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
_CAPS = {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}

PACKED: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "mistral": {**_LLAMA, "sliding_window": WINDOW},
    "ministral3": _LLAMA,
    "mixtral": _EXPERTS,
    "qwen2": {**_LLAMA, "use_sliding_window": True, "max_window_layers": 1, "sliding_window": WINDOW},
    "qwen3": {**_LLAMA, "tie_word_embeddings": True},
    "qwen3_moe": _EXPERTS,
    "gemma": _LLAMA,
    "gemma3_text": {**_LLAMA, "sliding_window": WINDOW},
    "gemma3": {"text_config": _LLAMA, "vision_config": {**_VISION, "image_size": 8, "patch_size": 4}},
    "phi": _LLAMA,
    "phi3": {**_LLAMA, "sliding_window": WINDOW},
    "phimoe": _EXPERTS,
    "gpt_neox": _LLAMA,
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "starcoder2": {**_LLAMA, "sliding_window": WINDOW},
    "opt": {**_OPT, "ffn_dim": 32, "word_embed_proj_dim": 32},
    "olmo": _LLAMA,
    "olmo2": _LLAMA,
    "olmo3": {**_LLAMA, "sliding_window": WINDOW},
    "olmoe": _EXPERTS,
    "cohere": {**_LLAMA, "logit_scale": 0.25},
    "cohere2": {**_LLAMA, "logit_scale": 0.25, "sliding_window": WINDOW},
    "granite": {**_LLAMA, "logits_scaling": 4.0, "embedding_multiplier": 3.0, "attention_multiplier": 0.1},
    "granitemoe": {**_EXPERTS, "logits_scaling": 4.0, "embedding_multiplier": 3.0},
    "smollm3": _LLAMA,
    "glm4": _LLAMA,
    "exaone4": {**_LLAMA, "sliding_window": WINDOW},
    "seed_oss": _LLAMA,
    "biogpt": {**_OPT, "intermediate_size": 32},
}
"""model_type -> settings of families whose documents are packed."""

PADDED: dict[str, tuple[dict[str, Any], str]] = {
    "gemma2": ({**_LLAMA, **_CAPS, "sliding_window": WINDOW}, "does not apply softcap"),
    "gpt_oss": ({**_EXPERTS, "sliding_window": WINDOW}, "does not apply s_aux"),
    "llama4_text": ({**_EXPERTS, **_CHUNKS}, "layers of kind chunked_attention"),
    "deepseek_v3": (_DEEPSEEK, "keys have 16 values a head, values 8"),
    "gptj": ({**_GPT2, "rotary_dim": 8}, "attention of its own"),
    "gpt_neo": (
        {**_OPT, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
        "attention of its own",
    ),
    "bloom": ({**_COMMON, "hidden_size": 32, "n_layer": 2, "n_head": 2}, "attention of its own"),
    "mpt": ({**_COMMON, "d_model": 32, "n_heads": 2, "n_layers": 2, "max_seq_len": 128}, "attention of its own"),
    "falcon": (_FALCON, "attention of its own"),
    "stablelm": (_LLAMA, "packed attention needs cu_seq_lens_q"),
    "xglm": (_XGLM, "attention of its own"),
}
"""model_type -> settings of families whose documents are padded, and a part of the reason."""

RECURRENT: dict[str, dict[str, Any]] = {
    "mamba": {**_LLAMA, "state_size": 4},
    "rwkv": {**_LLAMA, "attention_hidden_size": 32},
    "jamba": {
        **_LLAMA,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
        "num_experts": 2,
    },
    "lfm2": {**_LLAMA, "layer_types": ["conv", "full_attention"]},
    "qwen3_next": {**_EXPERTS, "layer_types": ["linear_attention", "full_attention"]},
}
"""model_type -> settings of families that are refused."""


def make(model_type: str, **shape: Any) -> PreTrainedModel:
    """Return a model with weights that are far from those of an initialiser: attention is far from uniform."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **shape))
    for parameter in model.parameters():
        offset = 0.0 if parameter.ndim > 1 else float(parameter.detach().mean())
        torch.nn.init.normal_(parameter, mean=offset, std=0.3 if parameter.ndim > 1 else 0.1)
    return model


def network_of(model: PreTrainedModel, codebook_size: int = 4) -> LanguageModel:
    """Return a language model that reads codes; the rows of the model are text but for the last ones."""
    visual = VisualConfig(
        image_input="codes",
        text_vocab=_COMMON["vocab_size"] - 2 - codebook_size,
        codebook_size=codebook_size,
        feature_dim=0,
        grid=(2, 2),
        preprocessing={},
        tokenizer_digest="0" * 64,
        code_range=(1, 4),
    )
    return LanguageModel(model, train_text_tokenizer(["a"], 258), visual)

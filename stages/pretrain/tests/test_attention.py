"""Packed attention against attention over one document."""

import torch
from lavit_pretrain.attention import use_packed


def test_grouped_query_attention_is_packed_too() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
    )
    llm = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 64, (1, 9))
    alone = llm.model(ids).last_hidden_state
    use_packed(llm)
    packed = llm.model(ids, position_ids=torch.arange(9)[None], cu_seq_lens_q=torch.tensor([0, 9])).last_hidden_state
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)

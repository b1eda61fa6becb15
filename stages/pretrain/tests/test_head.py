"""The head against the logits of transformers' own forward pass."""

import pytest
import torch
from lavit_pretrain.head import head_of
from transformers import AutoConfig, AutoModelForCausalLM

SHAPE = {"vocab_size": 30, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "pad_token_id": 0}


@torch.no_grad()
@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("llama", {}),
        ("phi", {}),
        ("cohere", {"logit_scale": 0.3}),
        ("granite", {"logits_scaling": 4.0}),
        ("gemma2", {"final_logit_softcapping": 2.0, "head_dim": 8}),
    ],
)
def test_logits_are_the_models_own_for_all_ids_and_for_some(model_type: str, changes: dict[str, float]) -> None:
    torch.manual_seed(0)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SHAPE, **heads, **changes)).eval()
    for parameter in model.get_output_embeddings().parameters():
        torch.nn.init.normal_(parameter)
    ids = torch.arange(1, 8)[None]
    hidden = model.get_decoder()(input_ids=ids).last_hidden_state
    expected = model(input_ids=ids).logits
    torch.testing.assert_close(head_of(model).logits(hidden), expected)
    torch.testing.assert_close(head_of(model).rows(5, 9).logits(hidden), expected[..., 5:9])

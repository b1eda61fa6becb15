"""Released names and forms; whole released folders are tested in the repository's tests/."""

import pytest
import torch
from lavit_core.errors import InputError
from lavit_detokenizer.released import export_detokenizer, inspect_detokenizers, modern_name
from lavit_tokenizer.config import TokenizerConfig


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("encoder.mid_block.attentions.0.query.weight", "encoder.mid_block.attentions.0.to_q.weight"),
        ("decoder.mid_block.attentions.0.proj_attn.bias", "decoder.mid_block.attentions.0.to_out.0.bias"),
        ("down_blocks.0.attentions.1.to_k.weight", "down_blocks.0.attentions.1.to_k.weight"),
        ("query.weight", "query.weight"),
    ],
)
def test_old_names_of_attention_are_todays(old, new):
    assert modern_name(old) == new


def test_a_folder_without_decoders_has_none(tmp_path):
    assert inspect_detokenizers(tmp_path, TokenizerConfig()) == []


def test_a_detokenizer_of_another_form_is_not_exported(trained, tmp_path):
    with pytest.raises(InputError, match="space is pixel, expected latent: the released code"):
        export_detokenizer(trained / "detokenizer", "detokenizer", {"x": torch.zeros(1)}, tmp_path / "out")
    assert not (tmp_path / "out").exists()

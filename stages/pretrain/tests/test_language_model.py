"""Language models from folders of other people: whole ones are loaded, nothing in them is run, the rest is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lavit_core.errors import InputError
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.language_model import load_causal_lm, load_llm, read_visual_config
from lavit_pretrain.plan import llm_on_meta_device
from lavit_pretrain.text_tokenizer import load_text_tokenizer
from lavit_pretrain.train_language_model import train_language_model
from lavit_trainkit.testing import forget_sizes
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM


@pytest.fixture
def llama(tmp_path):
    """A random LLaMA with a head of its own."""
    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=20, **shape)).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def test_a_folder_without_some_weights_is_refused(llama: Any) -> None:
    file = llama / "model.safetensors"
    tensors = load_file(file)
    whole = load_causal_lm(llama, torch.float32)
    assert torch.equal(whole.get_output_embeddings().weight, tensors.pop("lm_head.weight"))
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights of causal language model are missing \(first: lm_head.weight\)"):
        load_causal_lm(llama, torch.float32)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors: not a whole safetensors file"):
        load_causal_lm(llama, torch.float32)
    file.unlink()
    with pytest.raises(InputError, match="no weights here, expected model"):
        load_causal_lm(llama, torch.float32)


@pytest.mark.parametrize(
    "load",
    [lambda folder, _: load_causal_lm(folder, torch.float32), lambda folder, _: load_text_tokenizer(folder),
     lambda folder, config: llm_on_meta_device(config(), folder, 24)],
)  # fmt: skip
def test_code_in_a_folder_is_refused_and_nobody_is_asked(
    tmp_path: Path, tiny_config: Callable[..., PretrainConfig], monkeypatch: pytest.MonkeyPatch, load: Any
) -> None:
    monkeypatch.setattr("builtins.input", lambda *said: pytest.fail(f"asked: {said}"))
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    names = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.Text", None]}
    metadata = {"model_type": "evil", "auto_map": names, "architectures": ["EvilForCausalLM"]}
    for file in ("config.json", "tokenizer_config.json"):
        (tmp_path / file).write_text(json.dumps({**metadata, "tokenizer_class": "EvilTokenizer"}))
    with pytest.raises(InputError):
        load(tmp_path, tiny_config)


def test_damaged_visual_files_are_named(world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path) -> None:
    train_language_model([world.tokens], world.model, tmp_path, tiny_config(num_steps=1), quiet=True)
    model = tmp_path / "model"
    file = model / "llm" / "visual.safetensors"
    tensors = load_file(file)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"visual\.safetensors: \d+ bytes, expected \d+ bytes; copy the model again"):
        load_llm(model, device="cpu")
    forget_sizes(model)
    with pytest.raises(InputError, match=r"visual\.safetensors: not a whole safetensors file"):
        load_llm(model, device="cpu")
    save_file({"projector.weight": tensors["projector.weight"]}, file)
    with pytest.raises(InputError, match=r"visual\.safetensors: weights 1 missing \(projector\.bias\)"):
        load_llm(model, device="cpu")
    file.unlink()
    with pytest.raises(InputError, match=r"visual\.safetensors: file not found"):
        load_llm(model, device="cpu")
    metadata = model / "llm" / "visual.json"
    stored = json.loads(metadata.read_text())
    for key in ("codebook_size", "feature_dim"):  # refused before memory for them is taken
        metadata.write_text(json.dumps({**stored, key: 10**12}))
        with pytest.raises(InputError, match=rf"visual\.json: not what `lavit pretrain` writes \({key}: "):
            load_llm(model, device="cpu")
    metadata.write_text(json.dumps({**stored, "codebook_size": stored["codebook_size"] + 1}))
    with pytest.raises(InputError, match=r"visual\.json: text and codes have \d+ ids, but the model \d+ rows"):
        load_llm(model, device="cpu")
    for wrong in ({}, [], {"grid": 3, "code_range": [1, 2]}, {**stored, "more": 1}, {**stored, "grid": ["a", 1]}):
        metadata.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=r"visual\.json: not what `lavit pretrain` writes"):
            read_visual_config(model)

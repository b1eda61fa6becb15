"""Folders that are not a safety checker's; its decisions are tested with `lavit generate` in the root's tests/."""

import json

import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from lavit_core.errors import InputError
from lavit_detokenizer.safety import load_safety_checker
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig

SMALL = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIG = CLIPConfig(
    text_config={**SMALL, "vocab_size": 16},
    vision_config={**SMALL, "image_size": 16, "patch_size": 8, "projection_dim": 8},
    projection_dim=8,
)


def test_folders_of_another_kind_are_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"--safety-checker .*absent: no config\.json here, expected a directory of Sta"
    ):
        load_safety_checker(tmp_path / "absent")
    (tmp_path / "config.json").write_text(json.dumps({"text_config": 3}))
    with pytest.raises(InputError, match=r"--safety-checker .*: config\.json is not of a safety checker \("):
        load_safety_checker(tmp_path)
    CONFIG.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no weights here, expected model\.safetensors or \.bin"):
        load_safety_checker(tmp_path)


def test_missing_tensors_are_named(tmp_path):
    torch.manual_seed(0)
    StableDiffusionSafetyChecker(CONFIG).save_pretrained(tmp_path)
    assert callable(load_safety_checker(tmp_path, device="cpu"))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("concept_embeds")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors: weights 1 missing \(concept_embeds\)"):
        load_safety_checker(tmp_path, device="cpu")

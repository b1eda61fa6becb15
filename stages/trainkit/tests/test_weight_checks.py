import json

import pytest
import torch
from lavit_core.errors import InputError
from lavit_trainkit.external_weights import copy_weights, load_strictly, require_fit, save_tensors
from lavit_trainkit.pretrained import load_pretrained
from lavit_trainkit.weight_checks import require_finite
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

SHAPE = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(name="llama")
def llama_fixture(tmp_path):
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(tmp_path)
    return tmp_path


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def load(folder):
    return load_pretrained(AutoModelForCausalLM, folder, what="causal language model")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_value_that_is_not_finite_is_named(tmp_path, dtype, value):
    layer = nn.Linear(3, 2).to(dtype)
    good = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    require_finite("w", good.items())
    layer.weight.data[1, 2] = value
    save_tensors(layer.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"w.safetensors: weight holds NaN or infinity, expected finite weights"):
        load_strictly(layer, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"w.safetensors: weight holds NaN"):
        copy_weights([tmp_path / "w.safetensors"], tmp_path / "out", "model")


def test_transformers_weights_that_are_not_finite_are_named(llama):
    network = load(llama)
    with torch.no_grad():
        network.model.embed_tokens.weight[3, 4] = float("nan")
    network.save_pretrained(llama)
    with pytest.raises(InputError, match=r"model.safetensors: model.embed_tokens.weight holds NaN or infinity"):
        load(llama)


@pytest.mark.parametrize(
    ("change_to", "message"),
    [
        ({"hidden_size": 10**7}, r"config.json: describes \d+ weights, and \d+ are stored beside it"),
        ({"vocab_size": 10**12}, r"config.json: describes \d+ weights"),
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers is 1000000000, but the weights have 12 tensors"),
        ({"num_attention_heads": 0}, r"config.json: describes no network"),
        ({"hidden_size": 10**30}, r"config.json: describes no network"),
    ],
)
def test_a_configuration_that_its_weights_do_not_bear_out_is_refused_before_memory_is_taken(llama, change_to, message):
    change(llama / "config.json", **change_to)
    with pytest.raises(InputError, match=message):
        load(llama)


def test_a_pickle_among_transformers_weights_is_refused_without_advice_to_run_it(llama):
    class Bomb:
        def __reduce__(self):
            return (llama.joinpath("ran").touch, ())

    (llama / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": Bomb()}, llama / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model.bin: .*refused, and nothing of it was run") as refusal:
        load(llama)
    assert "weights_only" not in str(refusal.value)
    assert not (llama / "ran").exists()


def test_the_network_of_a_configuration_is_compared_with_the_file_as_names_and_shapes(tmp_path):
    config, weights = tmp_path / "config.json", tmp_path / "w.safetensors"
    config.write_text('{"width": 3, "blocks": {"layers": [1, 2]}}')
    save_tensors(nn.Linear(3, 2).state_dict(), weights)
    require_fit(config, weights, lambda: nn.Linear(3, 2))
    with pytest.raises(InputError, match=r"weight is \(2, 3\), expected \(2, 1000000000000\)"):
        require_fit(config, weights, lambda: nn.Linear(10**12, 2))
    config.write_text('{"width": 3, "blocks": {"layers": [1, 2000]}}')
    with pytest.raises(InputError, match=r"config.json: layers is 2000, but the weights have 2 tensors"):
        require_fit(config, weights, lambda: nn.Linear(3, 2))

"""The detokenizer on disk: what is stored is what is loaded, and damaged folders are refused."""

import json

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError
from lavit_detokenizer.config import DrawSettings
from lavit_detokenizer.draw import draw
from lavit_detokenizer.folder import load_detokenizer, save_detokenizer
from lavit_trainkit.testing import forget_sizes, have_equal_weights
from safetensors.torch import load_file, save_file

from .conftest import settings, train


def test_a_loaded_detokenizer_is_saved_as_it_was(trained, tmp_path):
    save_detokenizer(load_detokenizer(trained, device="cpu"), tmp_path / "again")
    assert have_equal_weights(tmp_path / "again", trained / "detokenizer")
    for name in ("config.json", "model_index.json", "scheduler/scheduler_config.json"):
        found, expected = ((folder / name).read_text() for folder in (tmp_path / "again", trained / "detokenizer"))
        assert json.loads(found) == json.loads(expected)


def test_a_refiner_is_stored_and_drawn_with(world, model, tmp_path):
    train(world, tmp_path / "run", config=settings(refine_channels=4))
    refined, features, pace = tmp_path / "run" / "model", torch.randn(2, 16, 16), DrawSettings(num_steps=2)
    made = load_detokenizer(refined, device="cpu")
    assert float(made.denoiser.refiner.convs[-1].weight.abs().max()) > 0
    save_detokenizer(made, tmp_path / "again")
    assert have_equal_weights(tmp_path / "again", refined / "detokenizer")
    drawn = draw(made, features, seeds=[0, 1], settings=pace)
    made.denoiser.refiner = None
    assert (draw(made, features, seeds=[0, 1], settings=pace) != drawn).any()
    (refined / "detokenizer" / "refiner.safetensors").unlink()
    forget_sizes(refined)
    with pytest.raises(InputError, match=r"refiner\.safetensors: "):
        load_detokenizer(refined, device="cpu")


def test_a_configuration_without_the_settings_of_a_refiner_is_read(model):
    made = load_detokenizer(model, device="cpu")
    file = model / "detokenizer" / "config.json"
    stored = json.loads(file.read_text())
    older = {name: value for name, value in stored.items() if not name.startswith("refine_")}
    assert len(older) == len(stored) - 2
    file.write_text(json.dumps(older))
    forget_sizes(model)
    again = load_detokenizer(model, device="cpu")
    assert again.config == made.config
    assert again.denoiser.refiner is None
    assert not (model / "detokenizer" / "refiner.safetensors").exists()


def test_a_unet_is_used_as_it_is_stored(model):
    weights = model / "detokenizer" / "unet" / "diffusion_pytorch_model.safetensors"
    features = torch.randn(2, 16, 16)

    def drawn(precision):
        made = load_detokenizer(model, device="cpu", precision=precision)
        dtype = next(made.denoiser.unet.parameters()).dtype
        return dtype, made.precision, draw(made, features, seeds=[0, 1], settings=DrawSettings(num_steps=3))

    dtype, precision, exact = drawn("auto")
    assert (dtype, precision) == (torch.float32, "fp32")
    save_file({name: value.bfloat16() for name, value in load_file(weights).items()}, weights)
    forget_sizes(model)
    dtype, precision, half = drawn("auto")
    assert (dtype, precision) == (torch.bfloat16, "bf16")
    assert drawn("fp32")[0] == torch.float32
    # bfloat16 has 8 bits: a few of 255 levels over three steps.
    assert 0 < np.abs(half.astype(int) - exact.astype(int)).mean() < 8


def test_damaged_folders_are_refused(model):
    weights = model / "detokenizer" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    bias = tensors.pop("conv_in.bias")
    save_file(tensors, weights)
    with pytest.raises(InputError, match=r"model.safetensors: \d+ bytes, expected \d+ bytes; copy the model again"):
        load_detokenizer(model, device="cpu")
    forget_sizes(model)
    with pytest.raises(InputError, match=r"weights do not fit the configuration \(conv_in.bias"):
        load_detokenizer(model, device="cpu")
    save_file(tensors | {"conv_in.bias": bias}, weights)
    load_detokenizer(model, device="cpu")
    (model / "detokenizer" / "condition.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_detokenizer(model, device="cpu")

"""The plan of train-detokenizer, against the networks themselves."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from lavit_core.errors import InputError
from lavit_core.tokens import open_tokens
from lavit_detokenizer.condition import Condition
from lavit_detokenizer.config import DetokenizerConfig, TrainDetokenizerConfig
from lavit_detokenizer.network import Denoiser, build_refiner
from lavit_detokenizer.plan import plan
from lavit_detokenizer.start_files import StartFiles
from lavit_detokenizer.unet import unet_arguments
from torch.utils.flop_counter import FlopCounterMode

from .conftest import FLOW, random_detokenizer, settings


def test_a_plan_on_tokens_counts_without_building(world):
    found = plan(settings(), world / "tokens", world / "model")
    assert found["images"] == len(open_tokens(world / "tokens"))
    assert found["sample_shape"] == [48, 4, 4]
    assert found["condition_parameters"] == 16 * 8 + 8
    assert found["refiner_parameters"] == 0
    # 1x1 from 48 to 2 * 16 channels, 3x3 from 2 to 2 and from 2 to 3.
    refined = plan(settings(refine_channels=2), world / "tokens", world / "model")
    assert refined["refiner_parameters"] == 49 * 32 + 19 * 2 + 19 * 3
    assert found["epochs"] == pytest.approx(8 * 4 / found["images"])
    assert list(found["cost"]["steps"]["train-detokenizer"]["parameters"]) == ["denoiser", "feature decoder"]


@pytest.mark.parametrize("refine_channels", [0, 4])
def test_the_unet_is_counted_as_it_runs(world, refine_channels):
    config = settings(refine_channels=refine_channels)
    step = plan(config, world / "tokens", world / "model")["cost"]["steps"]["train-detokenizer"]
    shape = DetokenizerConfig(
        **config.model_dump(include={"space", "image_px", "unshuffle", "condition", "refine_channels"}),
        feature_dim=16,
        grid=(4, 4),
    )
    denoiser = Denoiser(
        UNet2DConditionModel(**unet_arguments(shape, config.unet, (48, 4, 4))), Condition(shape), build_refiner(shape)
    )
    inputs = (torch.zeros(4, 48, 4, 4), torch.zeros(4).long(), torch.zeros(4, 16, 16), torch.zeros(4).bool())
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        denoiser(*inputs)
    # Forward once and backward twice (attention's backward 2.5 times); features are decoded once and kept.
    assert step["flops_per_step"] == pytest.approx(3 * counter.get_total_flops(), rel=0.05)
    held = step["memory_bytes"]["1"]
    assert held["average"] == held["gradients"] == 4 * sum(p.numel() for p in denoiser.parameters())


def test_checkpointing_and_passes_keep_less(world):
    def held(**changes):
        found = plan(settings(**changes), world / "tokens", world / "model")["cost"]["steps"]["train-detokenizer"]
        return found["memory_bytes"]["1"]["activations"], found["flops_per_step"]

    plain, flops = held()
    again, more = held(gradient_checkpointing=True)
    halves, _ = held(accumulate_steps=2)
    assert 0.2 * plain < again < plain
    assert 1.1 * flops < more < 1.4 * flops
    assert halves == plain / 2


def test_the_published_preset_is_planned_without_anything_at_hand():
    config = TrainDetokenizerConfig.model_validate({"condition": {"null_condition": "stored"}})
    found = plan(config)
    assert found["unet_parameters"] == 859_520_964
    assert found["sample_shape"] == [4, 64, 64]
    step = found["cost"]["steps"]["train-detokenizer"]
    assert list(step["parameters"]) == ["denoiser", "feature decoder", "vae encoder"]
    # UNet 0.8e12 operations an image at 512 px, three times; VAE encoder 1.1e12, feature decoder 0.2e12, once.
    assert step["flops_per_step"] / config.batch_size == pytest.approx(3.8e12, rel=0.05)


def test_a_transformer_is_counted_as_it_runs(world, tmp_path):
    config = settings(**FLOW, condition={"cross_dims": (8,)})
    found = plan(config, world / "tokens", world / "model")
    made = random_detokenizer(**FLOW, condition={"cross_dims": (8,)}).denoiser
    assert found["transformer_parameters"] == sum(parameter.numel() for parameter in made.network.parameters())
    inputs = (torch.zeros(4, 48, 4, 4), torch.zeros(4), torch.zeros(4, 16, 16), torch.zeros(4).bool())
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        made(*inputs)
    step = found["cost"]["steps"]["train-detokenizer"]
    # On CPUs torch counts no attention: 2 layers of self- and cross-attention, two products of 16 x 16 x 16 each. Its
    # backward pass takes 2.5 times as much, all else twice; the first layers' inputs need no gradient.
    attention = 4 * 2 * 2 * 2 * 2 * 16**3
    first = 4 * 2 * (16 * 48 * 16 + 256 * 16 + 16 * 16 * 8)
    assert step["flops_per_step"] == 3 * counter.get_total_flops() + 3.5 * attention - first
    again = plan(config.model_copy(update={"gradient_checkpointing": True}), world / "tokens", world / "model")
    held = [one["cost"]["steps"]["train-detokenizer"]["memory_bytes"]["1"]["activations"] for one in (again, found)]
    assert 0.1 * held[1] < held[0] < held[1]
    made.network.save_pretrained(tmp_path / "transformer")
    given = settings(flow={}, condition={"cross_dims": (8,)})
    from_folder = plan(given, world / "tokens", world / "model", StartFiles(transformer=tmp_path / "transformer"))
    assert from_folder["transformer_parameters"] == found["transformer_parameters"]


def test_folders_of_another_kind_are_refused(world, tmp_path):
    with pytest.raises(InputError, match="no tokenizer/ here"):
        plan(settings(), world / "tokens", tmp_path)
    with pytest.raises(InputError, match=r"config.json: file not found"):
        plan(settings(), world / "tokens", world / "model", StartFiles(unet=tmp_path))

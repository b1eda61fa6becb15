"""Schedules, parameter groups, gradient clipping, guards and training pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError, LavitError, UsageError
from lavit_core.images import Preprocessing
from lavit_trainkit.clipping import clip_gradients
from lavit_trainkit.device import generator, pick_device
from lavit_trainkit.optimizers import Part, adamw, build_optimizers, step_all
from lavit_trainkit.pixels import Pixels, normalise
from lavit_trainkit.schedule import set_rate, warmup_cosine
from lavit_trainkit.stopping import require_finite, stopped
from PIL import Image
from torch import nn


def test_warmup_then_cosine_to_the_floor() -> None:
    rates = [warmup_cosine(step, 100, warmup_steps=10, floor=0.1) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert max(rates) == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)


def test_groups_decay_matrices_only_and_leave_frozen_parameters_out() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    model[0].weight.requires_grad_(False)
    optimizer = adamw({"model": (model, 1e-3)}, betas=(0.9, 0.95), weight_decay=0.1)
    assert [(group["weight_decay"], len(group["params"])) for group in optimizer.param_groups] == [(0.0, 3)]
    set_rate({"adamw": optimizer}, 0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(5e-4)


def test_gradient_that_is_no_number_is_refused() -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([float("nan"), 1.0])
    with pytest.raises(LavitError, match="gradient norm is nan, expected a finite number"):
        clip_gradients([weight], 1.0)


def test_nan_loss_stops_with_one_line(tmp_path: Path) -> None:
    require_finite(1.0, name="loss", step=3, run=tmp_path)
    with pytest.raises(LavitError, match="loss is nan at step 3") as caught:
        require_finite(float("nan"), name="loss", step=3, run=tmp_path)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert stopped(tmp_path, 3, 9).exit_code == 75


def test_streams_depend_on_their_purpose_only() -> None:
    first = torch.rand(3, generator=generator(0, "gumbel", 7))
    torch.rand(5)
    assert torch.equal(first, torch.rand(3, generator=generator(0, "gumbel", 7)))
    assert not torch.equal(first, torch.rand(3, generator=generator(0, "gumbel", 8)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_missing_device_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no CUDA device"):
        pick_device("cuda")


def test_pixels_from_memory_equal_pixels_from_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for index in range(5):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(rng.integers(0, 255, (20, 12, 3), dtype=np.uint8)).save(paths[-1])
    kept, read = Pixels(paths, 8), Pixels(paths, 8, cache_bytes=0)
    assert torch.equal(kept.batch([4, 0]), read.batch([4, 0]))
    assert kept.batch([1]).shape == (1, 8, 8, 3)
    scaled = normalise(kept.batch([0]), Preprocessing(image_px=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    assert scaled.shape == (1, 3, 8, 8)
    assert scaled.abs().max() <= 1


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(InputError, match=r"page\.jpg.*lavit data inspect"):
        Pixels([tmp_path / "page.jpg"], 8)


def test_muon_takes_matrices_inside_layers_and_adamw_everything_else() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(5, 4)
            self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Conv2d(1, 1, 3)])
            self.head = nn.Linear(4, 5)

    model, selector = Small(), nn.Linear(4, 2)
    parts = {"model": Part(module=model, lr=1e-3, muon_lr=5e-3), "selector": Part(module=selector, lr=4e-3)}
    optimizers = build_optimizers(parts, betas=(0.9, 0.99), weight_decay=0.1)
    held = {
        name: [id(p) for group in optimizer.param_groups for p in group["params"]]
        for name, optimizer in optimizers.items()
    }
    assert held["muon"] == [id(model.blocks[0].weight)]
    assert sorted(held["adamw"] + held["muon"]) == sorted(map(id, [*model.parameters(), *selector.parameters()]))
    set_rate(optimizers, 0.5)
    assert {group["lr"] for group in optimizers["adamw"].param_groups} == {5e-4, 2e-3}
    assert optimizers["muon"].param_groups[0]["lr"] == pytest.approx(2.5e-3)

    before = model.blocks[0].weight.detach().clone()
    (model.blocks[0](torch.randn(3, 4)).square().sum() + model.head.weight.sum()).backward()
    step_all(optimizers)
    assert not torch.equal(model.blocks[0].weight, before)
    assert model.head.weight.grad is None
    assert list(build_optimizers({"model": Part(module=model, lr=1.0)}, betas=(0.9, 0.99), weight_decay=0)) == ["adamw"]

"""Parameter groups: which optimiser holds what, and what decays."""

import pytest
import torch
from lavit_trainkit.optimizers import Part, adamw, build_optimizers, step_all
from lavit_trainkit.schedule import set_rate
from torch import nn


def test_groups_decay_matrices_only_and_leave_frozen_parameters_out() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    model[0].weight.requires_grad_(False)
    optimizer = adamw({"model": (model, 1e-3)}, betas=(0.9, 0.95), weight_decay=0.1)
    assert [(group["weight_decay"], len(group["params"])) for group in optimizer.param_groups] == [(0.0, 3)]
    set_rate({"adamw": optimizer}, 0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(5e-4)


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

"""Muon over stacks of matrices against torch's, one matrix after another."""

import pytest
import torch
from lavit_trainkit import muon
from lavit_trainkit.muon import StackedMuon
from torch import nn

SHAPES = [(24, 24), (24, 24), (96, 24), (24, 96), (96, 24)]


def trained(make: type[torch.optim.Optimizer], steps: int = 4, **settings: object) -> tuple[list[nn.Parameter], dict]:
    stream = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=stream)) for shape in SHAPES]
    groups = [{"params": parameters[:3], "lr": 0.02}, {"params": parameters[3:], "lr": 0.01}]
    optimizer = make(groups, weight_decay=0.1, **settings)
    for step in range(steps):
        for index, parameter in enumerate(parameters):
            # The second matrix is left out of one step, as a module is that a phase does not use.
            absent = (index, step) == (1, 2)
            parameter.grad = None if absent else torch.randn(parameter.shape, generator=stream)
        optimizer.step()
    return parameters, optimizer.state_dict()


@pytest.mark.parametrize("together", [muon.STACK_ELEMENTS, 1])
def test_stacked_against_one_by_one(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "STACK_ELEMENTS", together)
    monkeypatch.setattr(muon, "computes_bf16", lambda kind: True)  # torch's rounds so on every machine
    stacked, state = trained(StackedMuon)
    plain, plain_state = trained(torch.optim.Muon, adjust_lr_fn="match_rms_adamw")
    start, _ = trained(StackedMuon, steps=0)
    for ours, theirs, before in zip(stacked, plain, start, strict=True):
        # An update's elements are about 0.2 x rate; both round to bfloat16 in each product.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)
        assert (ours - before).abs().mean() > 2e-3
    assert state["state"].keys() == plain_state["state"].keys()
    for index, entries in state["state"].items():
        assert torch.equal(entries["momentum_buffer"], plain_state["state"][index]["momentum_buffer"])


def test_a_processor_without_bf16_turns_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    found: set[torch.dtype] = set()
    turned = muon._orthogonal
    monkeypatch.setattr(muon, "_orthogonal", lambda x, *how, **more: found.add(x.dtype) or turned(x, *how, **more))
    monkeypatch.setattr(muon, "computes_bf16", lambda kind: False)
    exact, _ = trained(StackedMuon)
    assert found == {torch.float32}
    monkeypatch.setattr(muon, "computes_bf16", lambda kind: True)
    rounded, _ = trained(StackedMuon)
    assert found == {torch.float32, torch.bfloat16}
    for one, other in zip(exact, rounded, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)
        assert not torch.equal(one, other)


@pytest.mark.parametrize("quintics", [muon.FIVE_QUINTICS, muon.THREE_QUINTICS])
def test_updates_turn_every_direction_alike(quintics: tuple[muon.Quintic, ...]) -> None:
    parameter = nn.Parameter(torch.zeros(16, 64))
    optimizer = StackedMuon([{"params": [parameter], "lr": 1.0}], weight_decay=0.0, quintics=quintics)
    scales = torch.logspace(0, -1.5, 16)[:, None]
    parameter.grad = scales * torch.linalg.qr(torch.randn(64, 16, generator=torch.Generator().manual_seed(1)))[0].T
    optimizer.step()
    values = torch.linalg.svdvals(parameter.detach()) / (0.2 * 64**0.5)
    assert values.min() > 0.6
    assert values.max() < 1.3

"""One network in several processes, as far as one process can test it; tests/test_processes.py starts several."""

import pytest
import torch
from lavit_trainkit.parallel import Computed, copy_for_export, parallelize, take_weights
from torch import nn


def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")


def test_alone_a_network_is_called_as_it_is() -> None:
    computed = parallelize(nn.Linear(1, 1), lambda net, x: net(x), parallel="fsdp", device=torch.device("cpu"))
    assert type(computed) is Computed


def test_a_network_in_one_piece_is_exported_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Linear(2, 2)
    assert copy_for_export(network, "fsdp") is take_weights(network, network, keep=True) is network
    two_processes(monkeypatch)
    assert copy_for_export(network, "ddp") is network


def test_a_copy_without_weights_takes_them_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    two_processes(monkeypatch)
    network = nn.ModuleDict(
        {"table": nn.Embedding(4, 3), "head": nn.Linear(3, 4, bias=False), "norm": nn.BatchNorm1d(3)}
    )
    network["head"].weight = network["table"].weight  # tied
    copied = copy_for_export(network, "fsdp")
    assert all(parameter.is_meta for parameter in copied.parameters())
    network["norm"].running_mean += 1
    full = take_weights(copied, network, keep=True)
    assert full["head"].weight is full["table"].weight
    assert full["head"].weight is not network["head"].weight
    for name, value in network.state_dict().items():
        assert torch.equal(full.state_dict()[name], value)

"""A bf16 working copy and the fp32 weights that take its updates."""

import torch
from lavit_trainkit.master_weights import copy_weights, drop_gradients, move_gradients, working_copy
from torch import nn


def test_in_fp32_the_network_works_itself() -> None:
    master = nn.Linear(3, 2)
    assert working_copy(master, torch.float32) is master
    master.weight.grad = torch.ones(2, 3)
    move_gradients(master, master)
    copy_weights(master, master)
    assert torch.equal(master.weight.grad, torch.ones(2, 3))


def test_gradients_move_up_and_weights_come_back_rounded() -> None:
    master = nn.Linear(3, 2)
    working = working_copy(master, torch.bfloat16)
    assert working.weight.dtype == torch.bfloat16
    working(torch.ones(1, 3, dtype=torch.bfloat16)).sum().backward()
    working.bias.grad = None
    move_gradients(working, master)
    assert master.weight.grad is not None
    assert (master.weight.grad.dtype, master.bias.grad) == (torch.float32, None)
    assert working.weight.grad is None
    with torch.no_grad():
        master.weight += 1 / 1024  # less than bf16 keeps: the fp32 weight remembers it
    copy_weights(master, working)
    assert torch.equal(working.weight, master.weight.bfloat16())
    assert not torch.equal(working.weight.float(), master.weight)


def test_frozen_weights_are_shared_and_buffers_keep_their_precision() -> None:
    master = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    master[0].requires_grad_(False)
    master.register_buffer("frequencies", torch.tensor([0.3162]))
    working = working_copy(master, torch.bfloat16)
    assert working[0].weight is master[0].weight
    assert {parameter.dtype for parameter in working.parameters()} == {torch.bfloat16}
    assert [parameter.dtype for parameter in master.parameters()] == [torch.bfloat16] * 2 + [torch.float32] * 2
    assert torch.equal(working.frequencies, master.frequencies)
    with torch.no_grad():
        master[1].weight += 1
    copy_weights(master, working)
    assert torch.equal(working[1].weight, master[1].weight.bfloat16())


def test_dropped_gradients_are_none_not_zero() -> None:
    module = nn.Linear(3, 2)
    module(torch.zeros(1, 3)).sum().backward()
    drop_gradients(module)
    assert [parameter.grad for parameter in module.parameters()] == [None, None]

"""AdamW with moments in 8 bits: which parameters, how near it is, checkpoints to the bit, refusals."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
from lavit_core.errors import InputError, UsageError
from lavit_trainkit.checkpoint import load_newest, save_checkpoint
from lavit_trainkit.cost import Step, memory, part
from lavit_trainkit.eight_bit import BYTES, check_moment_bits, large_matrices
from lavit_trainkit.optimizers import Part, build_optimizers, restore_optimizers, step_all, stored_optimizers
from lavit_trainkit.schedule import set_rate
from torch import nn

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


def network() -> nn.ModuleDict:
    """A table, a layer inside a list, a convolution, a vector and a small matrix."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "table": nn.Embedding(80, 64),
            "blocks": nn.ModuleList([nn.Linear(64, 96)]),
            "conv": nn.Conv2d(96, 8, 3),
            "small": nn.Linear(8, 4),
        }
    )


def loss_of(model: nn.ModuleDict, step: int, device: str = "cpu") -> torch.Tensor:
    ids = torch.randint(0, 80, (2, 25), generator=torch.Generator().manual_seed(step)).to(device)
    x_BCHW = model["blocks"][0](model["table"](ids)).transpose(1, 2).unflatten(-1, (5, 5))
    return (model["small"](model["conv"](x_BCHW).mean((2, 3))) - 1).square().mean()


def optimizers_of(model: nn.Module, bits: int = 8) -> dict[str, torch.optim.Optimizer]:
    parts = {"model": Part(module=model, lr=3e-3)}
    return build_optimizers(parts, betas=(0.9, 0.95), weight_decay=0.1, moment_bits=bits)


def train(
    model: nn.ModuleDict, optimizers: dict[str, torch.optim.Optimizer], steps: range, device: str = "cpu"
) -> float:
    for step in steps:
        set_rate(optimizers, 1 / (1 + step / 10))
        loss = loss_of(model, step, device)
        loss.backward()
        step_all(optimizers)
    return float(loss_of(model, 99, device))


def test_large_matrices_but_for_tables() -> None:
    model = network()
    assert large_matrices(model) == [model["blocks"][0].weight, model["conv"].weight]
    model["conv"].weight.requires_grad_(False)
    assert large_matrices(model) == [model["blocks"][0].weight]


@needs_bitsandbytes
def test_each_parameter_is_in_one_optimizer_and_muon_keeps_its_own() -> None:
    model = network()
    held = {
        name: [id(p) for group in one.param_groups for p in group["params"]]
        for name, one in optimizers_of(model).items()
    }
    assert held["adamw8"] == [id(model["blocks"][0].weight), id(model["conv"].weight)]
    assert sorted(held["adamw8"] + held["adamw"]) == sorted(map(id, model.parameters()))
    parts = {"model": Part(module=model, lr=3e-3, muon_lr=1e-3)}
    muon = build_optimizers(parts, betas=(0.9, 0.95), weight_decay=0.1, moment_bits=8)
    assert [len(one.param_groups[0]["params"]) for one in (muon["muon"], muon["adamw8"])] == [1, 1]
    assert list(optimizers_of(model, bits=32)) == ["adamw"]


@needs_bitsandbytes
def test_it_learns_as_32_bits_do_and_decays_the_same() -> None:
    start = network()
    models, losses = {}, {}
    for bits in (8, 32):
        models[bits] = copy.deepcopy(start)
        losses[bits] = train(models[bits], optimizers_of(models[bits], bits), range(40))
    assert losses[8] < 0.2 * float(loss_of(start, 99))
    # Measured: 2 % of the way that the weights went.
    for name in ("blocks.0.weight", "conv.weight"):
        began, eight, full = (dict(one.named_parameters())[name] for one in (start, models[8], models[32]))
        assert 0 < (eight - full).norm() < 0.05 * (full - began).norm()


@needs_bitsandbytes
def test_a_run_continues_from_a_checkpoint_to_the_bit(tmp_path: Path) -> None:
    whole, cut = network(), network()
    train(whole, optimizers_of(whole), range(9))
    optimizers = optimizers_of(cut)
    train(cut, optimizers, range(4))
    stored = stored_optimizers(optimizers)
    assert {value.dtype for name, value in stored["adamw8"].items() if name.endswith(("state1", "state2"))} == {
        torch.uint8
    }
    # What is kept of a number: a byte and its share of a scale, twice.
    kept = [value for name, value in stored["adamw8"].items() if "qmap" not in name and not name.endswith("step")]
    numbers = sum(one.numel() for one in large_matrices(cut))
    assert sum(value.numel() * value.element_size() for value in kept) == pytest.approx(BYTES * numbers, rel=0.01)
    save_checkpoint(tmp_path, 4, {"model": cut.state_dict(), **stored})
    found = load_newest(tmp_path)
    assert found is not None
    again = network()
    again.load_state_dict(found.tensors["model"])
    optimizers = optimizers_of(again)
    restore_optimizers(optimizers, found.tensors)
    train(again, optimizers, range(4, 9))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@needs_bitsandbytes
@pytest.mark.gpu
def test_the_same_on_a_gpu(tmp_path: Path) -> None:
    whole, cut = network().cuda(), network().cuda()
    first = float(loss_of(whole, 99, "cuda"))
    assert train(whole, optimizers_of(whole), range(9), "cuda") < first
    optimizers = optimizers_of(cut)
    train(cut, optimizers, range(4), "cuda")
    save_checkpoint(tmp_path, 4, {"model": cut.state_dict(), **stored_optimizers(optimizers)})
    found = load_newest(tmp_path)
    assert found is not None
    optimizers = optimizers_of(cut)
    restore_optimizers(optimizers, found.tensors)
    train(cut, optimizers, range(4, 9), "cuda")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, cut.state_dict()[name], rtol=1e-4, atol=1e-6)  # sums in another order


def test_a_plan_counts_bytes_instead_of_floats() -> None:
    def held(bits: int) -> float:
        counted = part("model", network(), trained=True, moment_bits=bits)
        step = Step(name="s", unit="token", units=1, num_steps=1, parts=(counted,), flops=0, activation_bytes=0)
        return memory(step, 1, "ddp")["optimizer"]

    large = 64 * 96 + 96 * 8 * 9
    assert held(32) - held(8) == pytest.approx((8 - BYTES) * large)


def test_what_does_not_go_together_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("lavit_trainkit.eight_bit.is_sharded", lambda parallel: parallel == "fsdp")
    check_moment_bits(32, "fsdp")
    with pytest.raises(
        UsageError, match="setting moment_bits: 8 with parallel: fsdp: scales of 256 numbers are not sh"
    ):
        check_moment_bits(8, "fsdp")
    with pytest.raises(InputError, match="moment_bits: 8 needs bitsandbytes, which is not installed; run `pip install"):
        check_moment_bits(8, "ddp")

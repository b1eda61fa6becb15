"""The arithmetic of a step's cost, and what is counted on the meta device, against the same on a CPU."""

import pytest
import torch
import torch.nn.functional as F
from lavit_trainkit import matmul_rate as matmul_rate_module
from lavit_trainkit.cost import Cost, Step, attention, backward_of, count, matrices, memory, seconds_of
from lavit_trainkit.cost_report import cost_lines, cost_report
from lavit_trainkit.matmul_rate import matmul_rate
from lavit_trainkit.meta_run import forward_flops, kept_bytes
from torch import nn

STEP = Step(
    name="train", unit="token", units=1000, num_steps=3600, low_weights=True, low_gradients=True, gathered=10,
    gathered_bytes=8,
    costs=(
        Cost(name="llm", parameters=100, trained=100, muon=60, forward=2e3, backward=4e3, kept_bytes=800),
        Cost(name="encoder", parameters=50, forward=1e3),
    ),
)  # fmt: skip


def test_memory_of_one_device_is_the_sum_of_what_is_held():
    held = memory(STEP, 1, "ddp")
    assert held["weights"] == 4 * 150
    assert held["gradients"] == 400
    assert held["optimizer"] == 8 * 40 + 4 * 60
    assert held["copies"] == 100 * (2 + 2)
    assert held["activations"] == 800
    assert held["total"] == 600 + 400 + 560 + 400 + 800


def test_copies_keep_everything_and_shards_a_part():
    copied, sharded = memory(STEP, 8, "ddp"), memory(STEP, 8, "fsdp")
    assert copied["copies"] == 100 * (2 + 2 + 2)  # and DDP's buckets
    assert copied["optimizer"] == memory(STEP, 1, "ddp")["optimizer"] == 8 * sharded["optimizer"]
    assert sharded["weights"] == 400 / 8 + 200  # what is frozen is whole everywhere
    assert sharded["copies"] == 10 * 8
    assert copied["activations"] == sharded["activations"] == 100


def test_what_is_trained_takes_three_forwards_and_what_passes_gradients_two():
    assert backward_of(10.0, trained=True) == 20
    assert backward_of(10.0, trained=False, passes_on=True) == 10
    assert backward_of(10.0, trained=False) == 0
    assert STEP.flops == 7e3
    assert seconds_of(STEP, 1e3, 0.5) == 14
    assert seconds_of(STEP, 1e3, 0.5, devices=7) == 2


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 24), nn.LayerNorm(8)

    def forward(self, pixels):
        rows = self.norm(self.conv(pixels).flatten(2).transpose(1, 2))
        q, k, v = self.linear(rows).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).square().sum()


def test_the_meta_device_counts_what_a_cpu_does():
    with torch.device("meta"):
        absent = Attending()
    real, rows = Attending(), 25
    pixels = torch.randn(2, 3, 5, 5)
    by_hand = 2 * rows * (2.0 * matrices(real) + attention(1, rows, 8))
    assert forward_flops(lambda: absent(pixels.to("meta"))) == by_hand
    on_meta = kept_bytes(absent, lambda: absent(pixels.to("meta")))
    # Beside what both keep, torch's CPU kernel keeps a row's log-sum for each head.
    assert kept_bytes(real, lambda: real(pixels)) - on_meta == pytest.approx(2 * 2 * rows * 4, abs=64)


def test_matrices_are_what_multiplies_rows():
    module = nn.ModuleDict({"table": nn.Embedding(7, 3), "linear": nn.Linear(3, 5), "norm": nn.LayerNorm(5)})
    assert matrices(module) == 15
    assert count(module) == 21 + 15 + 5 + 10


def test_the_rate_is_that_of_a_product_long_enough_to_time(monkeypatch):
    tried = []

    def at_two_teraflops(side, device, dtype):
        tried.append(side)
        return 2.0 * side**3 / 2e12

    monkeypatch.setattr(matmul_rate_module, "_time", at_two_teraflops)
    monkeypatch.setattr(matmul_rate_module, "SECONDS", 0.0)
    assert matmul_rate(torch.device("cpu"), torch.float32) == pytest.approx(2e12)
    last = tried[-1]
    assert 2.0 * last**3 / 2e12 >= matmul_rate_module.LONG_ENOUGH > 2.0 * (last // 2) ** 3 / 2e12
    assert tried.count(last) > 3  # timed again after it was chosen
    monkeypatch.undo()
    assert matmul_rate(torch.device("cpu"), torch.float32) > 0


def test_a_report_names_what_is_predicted():
    report = cost_report([STEP], device=torch.device("cpu"), precision="fp32")
    step = report["steps"]["train"]
    assert step["flops_per_step"] == 7e3
    assert step["parameters"]["encoder"]["trained"] == 0
    rate = report["matmul"]["flops_per_second"]
    assert step["predicted_seconds_per_step"] == pytest.approx(7e3 / (0.4 * rate))
    assert report["predicted_hours"] == pytest.approx(step["predicted_seconds_per_step"])  # 3600 steps
    told = "\n".join(cost_lines(report))
    for line in ("train: 3,600 steps of 1,000 tokens", "64 fsdp", "A prediction, not a", "40% assumed"):
        assert line in told

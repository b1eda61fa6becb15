"""The arithmetic of a step's memory, and how a dry run prints it."""

import json

from lavit_trainkit.cost import Part, Step, cost_report, count, memory, part, plan_lines
from torch import nn

STEP = Step(
    name="train", unit="token", units=1000, num_steps=3600, low_weights=True, low_gradients=True, gathered=10,
    gathered_bytes=8, flops=7e3, activation_bytes=800,
    parts=(
        Part(name="llm", num_parameters=100, num_trained=100, num_muon=60),
        Part(name="encoder", num_parameters=50),
    ),
)  # fmt: skip


def test_memory_of_one_device_is_the_sum_of_what_is_held() -> None:
    held = memory(STEP, 1, "ddp")
    assert held["weights"] == 4 * 150
    assert held["gradients"] == 400
    assert held["optimizer"] == 8 * 40 + 4 * 60
    assert held["copies"] == 100 * (2 + 2)
    assert held["activations"] == 800
    assert held["total"] == 600 + 400 + 560 + 400 + 800


def test_copies_keep_everything_and_shards_a_part() -> None:
    copied, sharded = memory(STEP, 8, "ddp"), memory(STEP, 8, "fsdp")
    assert copied["copies"] == 100 * (2 + 2 + 2)  # and DDP's buckets
    assert copied["optimizer"] == memory(STEP, 1, "ddp")["optimizer"] == 8 * sharded["optimizer"]
    assert sharded["weights"] == 400 / 8 + 200  # what is frozen is whole everywhere
    assert sharded["copies"] == 10 * 8
    assert copied["activations"] == sharded["activations"] == 100


def test_a_part_counts_parameters_and_those_of_muon() -> None:
    module = nn.ModuleDict({"table": nn.Embedding(7, 3), "linear": nn.Linear(3, 5), "norm": nn.LayerNorm(5)})
    assert count(module) == 21 + 15 + 5 + 10
    assert part("m", module) == Part(name="m", num_parameters=51)
    assert part("m", module, trained=True, muon=True).num_trained == 51


def test_a_report_is_json_and_lines() -> None:
    report = cost_report([STEP])
    step = report["steps"]["train"]
    assert step["flops_per_step"] == 7e3
    assert step["tokens_per_step"] == 1000
    assert step["parameters"] == {"llm": {"all": 100, "trained": 100}, "encoder": {"all": 50, "trained": 0}}
    assert step["memory_bytes"]["8 fsdp"] == memory(STEP, 8, "fsdp")
    lines = "\n".join(plan_lines(json.loads(json.dumps({"config": {"a": {"b": 1}}, "images": 3, "cost": report}))))
    for line in ("  a.b: 1", "images: 3", "train: 3,600 steps of 1,000 tokens", "a step: 7e+03", "64 fsdp", "frozen"):
        assert line in lines

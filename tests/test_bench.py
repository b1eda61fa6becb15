"""`lavit bench`: outputs are compared before anything is timed, ratios are those of pairs, results can be read again.

No test here looks at a time.
"""

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError, VerificationError

from lavit_cli.bench import pairs as pairs_module
from lavit_cli.bench.comparison import WORKLOADS, Arm, BenchSettings, Comparison, Unequal, equal_share, equal_within
from lavit_cli.bench.pairs import ratio_of, slope_of, time_in_pairs
from lavit_cli.bench.record import read_result
from lavit_cli.bench.run import measure
from lavit_cli.bench.table import markdown


def comparison(baseline, ours, **more) -> Comparison:
    return Comparison(
        name="sum",
        size="4 numbers",
        dtype="fp32",
        baseline=Arm(name="plain", run=baseline),
        ours=Arm(name="fast", run=ours),
        equal=equal_within(1e-6),
        unit="numbers",
        amount=4,
        **more,
    )


def test_unequal_arms_are_refused_before_they_are_timed() -> None:
    calls = []

    def run(value: float) -> torch.Tensor:
        calls.append(value)
        return torch.full((4,), value)

    with pytest.raises(VerificationError, match="bench test: sum, 4 numbers, fp32: fast does not compute what plain"):
        measure("test", comparison(lambda: run(1.0), lambda: run(1.1)), BenchSettings(), {})
    assert calls == [1.0, 1.1]


def test_arms_take_turns_and_the_order_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []
    clock = {"plain": 3.0, "fast": 1.5}

    def seconds(arm: Arm, repeats: int, device: str) -> tuple[float, float]:
        turns.append(arm.run())
        return clock[turns[-1]], 2 * clock[turns[-1]]

    monkeypatch.setattr(pairs_module, "_seconds", seconds)
    monkeypatch.setattr(pairs_module, "SHORTEST", 1.0)
    made = comparison(lambda: "plain", lambda: "fast", flops=30.0)
    baseline, ours, ratio, roofline = time_in_pairs(made, pairs=3, device="cpu", matmul=lambda: 40.0)
    assert turns[2:] == ["plain", "fast", "fast", "plain", "plain", "fast"]
    assert (ratio.median, ratio.low, ratio.pairs) == (2.0, 2.0, 3)
    assert (baseline.seconds, ours.seconds, ours.wall, ours.rate) == (3.0, 1.5, 3.0, 4 / 1.5)
    assert roofline == 30.0 / 1.5 / 40.0


def test_the_peak_is_what_an_arm_holds_at_once() -> None:
    size = 64 << 20
    arm = Arm(name="holds", run=lambda: np.ones(size, dtype=np.uint8).sum())
    peak, _ = pairs_module.peak_of(arm, "cpu")
    assert peak is not None
    assert size * 0.9 < peak < size * 1.5


def test_ratios_and_slopes() -> None:
    ratio = ratio_of([2.0, 4.0, 3.0])
    assert (ratio.median, ratio.least, ratio.most, ratio.pairs) == (3.0, 2.0, 4.0, 3)
    assert ratio.low == pytest.approx(2.1)
    assert slope_of([1, 2, 4], [5.0, 20.0, 80.0]) == pytest.approx(2.0)


def test_nearness_is_checked_and_reported() -> None:
    ones = torch.ones(100)
    assert equal_within(1e-2)(ones, ones + 1e-3) == "relative difference 1.0e-03"
    with pytest.raises(Unequal, match=r"relative difference 0.1, expected at most 0.01"):
        equal_within(1e-2)(ones, ones * 1.1)
    with pytest.raises(Unequal, match="relative difference nan"):
        equal_within(1e-2)(ones, ones * float("nan"))
    codes = torch.arange(100)
    assert equal_share(0.99)(codes, codes) == "100 of 100 are equal"
    with pytest.raises(Unequal, match=r"98 of 100 are equal, expected a share of 0.99"):
        equal_share(0.99)(codes, codes.where(codes > 1, -1))
    with pytest.raises(Unequal, match="shapes"):
        equal_share(0.99)(codes, codes[:1])


@pytest.fixture
def tiny_merger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tokenizer's workload small enough for a test."""
    from lavit_cli.bench import machine
    from lavit_cli.bench.workloads import tokenizer

    for name, value in (("IMAGES", 2), ("WIDTH", 32), ("MLP_DIM", 64), ("HEADS", 2)):
        monkeypatch.setattr(tokenizer, name, value)
    monkeypatch.setattr(pairs_module, "SHORTEST", 0.0)
    monkeypatch.setattr(machine, "ROWS", 2)
    for name in ("encoder_blocks", "whole", "training"):  # these have no other width than the published one
        monkeypatch.setattr(tokenizer, name, lambda *_: iter(()))


def test_a_result_can_be_read_again(here, tiny_merger: None, tmp_path: Path) -> None:
    file = tmp_path / "new" / "result.json"
    done = here("bench", "tokenizer", "--dtype", "fp32", "--pairs", "3", "--json", "--out", file)
    assert done.code == 0, done.err
    shown = json.loads(done.out)
    assert json.loads(file.read_text()) == shown
    assert shown["command"] == "lavit bench tokenizer --dtype fp32 --pairs 3"
    result = read_result(file)
    assert {"format": 1, **shown} == result.as_json()
    assert {"merger", "nearest code"} <= {record.name for record in result.records}
    assert all(record.equal and record.ratio.pairs == 3 for record in result.records)
    assert {(slope.curve, len(slope.sizes)) for slope in result.slopes} == {
        ("merger, images", 3), ("merger, share kept", 4),
    }  # fmt: skip
    page = markdown(result)
    for record in result.records:
        assert f"| {record.name}: {record.size}; {record.equal} | fp32 |" in page


CLONE = """
from timm.models.layers import drop_path, to_2tuple, trunc_normal_
from models.modeling_visual_encoder import build_eva_clip
from lavit_tokenizer.merger import Merger

class TokenMerger(Merger):
    def __init__(self, dim, num_heads, depth, mlp_ratio, qkv_bias):
        super().__init__(dim, layers=depth, heads=num_heads, mlp_dim=int(dim * mlp_ratio), num_patches=256)

    def forward(self, x, decisions):
        return self.forward_masked(x, decisions, released_eps=1e-6)
"""
"""Stands for the released file: its imports, its class's arguments, its weights' names."""


def test_a_clone_of_the_released_code_is_one_more_baseline(here, tiny_merger: None, tmp_path: Path) -> None:
    line = ("bench", "tokenizer", "--dtype", "bf16", "--pairs", "3", "--json", "--official", tmp_path)
    done = here(*line)
    assert done.code == 3
    assert f"--official {tmp_path}: found no LaVIT/models/modeling_visual_tokenzier.py" in done.err
    file = tmp_path / "LaVIT" / "models" / "modeling_visual_tokenzier.py"
    file.parent.mkdir(parents=True)
    file.write_text("import nowhere_to_be_found")
    assert "does not run here (ModuleNotFoundError: No module named 'nowhere" in here(*line).err
    file.write_text(CLONE)
    done = here(*line)
    assert done.code == 0, done.err
    names = [record["baseline"]["name"] for record in json.loads(done.out)["records"]]
    assert "the released code, fp32" in names
    assert not {"timm", "models"} & set(sys.modules)


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    for content in ("{}", "[1]", '{"format": 2}', "no JSON", '{"format": 1, "records": 3}'):
        file.write_text(content)
        with pytest.raises(InputError, match="not a result of `lavit bench --out`"):
            read_result(file)


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("nothing", 2, "bench nothing: expected tokenizer"),
        ("--dtype fp16", 2, "--dtype fp16: expected fp32, bf16 or both"),
        ("--device tpu", 2, "--device tpu: expected auto, cpu, cuda or cuda:N"),
        ("--official nowhere", 3, "--official nowhere: no such directory; clone jy0205/LaVIT there"),
    ],
)
def test_wrong_options_are_refused(here, line: str, code: int, error: str) -> None:
    done = here("bench", *line.split())
    assert (done.code, done.out) == (code, "")
    assert error in done.err


def test_goals_are_less_where_the_hardware_gains_less() -> None:
    from lavit_cli.bench.workloads.goals import goal_here
    from lavit_cli.bench.workloads.tokenizer import onednn_pays

    fast = BenchSettings(speeds={"fp32 torch": 1.0, "fp32 oneDNN": 2.35, "bf16": 6.0})
    slow = BenchSettings(speeds={"fp32 torch": 1.0, "fp32 oneDNN": 1.2, "bf16": 2.4})
    assert [goal_here(12, one) for one in (fast, slow)] == [12, 6]
    assert [onednn_pays(one) for one in (fast, slow, BenchSettings())] == [True, False, False]
    assert goal_here(12, BenchSettings(device="cuda:0", speeds={"fp32 torch": 1.0, "bf16": 1.0})) == 12


@pytest.fixture
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the workloads of the language model and the detokenizer small enough for a test."""
    from lavit_detokenizer.api import UNetShape

    from lavit_cli.bench import machine
    from lavit_cli.bench.workloads import detokenizer, generate, train
    from lavit_cli.bench.workloads.language_models import ModelSize

    model = ModelSize(width=32, layers=2, heads=2, mlp_dim=64, text_vocab=500, codes=64)
    unet = UNetShape(block_out_channels=(8, 8, 8, 8), layers_per_block=1, attention_head_dim=2, norm_num_groups=4)
    for module, sizes in (
        (train, {"model": model, "tokens": 512, "fixed_tokens": 272, "curve": (272, 320, 384)}),
        (generate, {"model": model, "codes": 3, "batches": (1, 2, 3), "shared": 4, "shared_codes": 2}),
        (detokenizer, {"image_px": 32, "unet": unet, "vae_channels": (8, 8), "groups": 4, "steps": 2}),
    ):
        monkeypatch.setattr(module, "SIZES", dataclasses.replace(module.SIZES, **sizes))
    monkeypatch.setattr(generate, "PREFIX", 12)
    monkeypatch.setattr(train, "FILL_STEPS", 5)
    monkeypatch.setattr(pairs_module, "SHORTEST", 0.0)
    monkeypatch.setattr(machine, "ROWS", 2)


@pytest.mark.parametrize(
    ("workload", "equal", "curves"),
    [
        ("train", "losses differ by", {"packed tokens, both fp32"}),
        ("generate", "in total variation", {"prompts"}),
        ("detokenizer", "difference|losses differ by", set()),
    ],
)
def test_networks_are_held_equal(here, tiny_networks: None, workload: str, equal: str, curves: set[str]) -> None:
    done = here("bench", workload, "--dtype", "fp32", "--pairs", "3", "--json")
    assert done.code == 0, done.err
    shown = json.loads(done.out)
    assert shown["records"]
    assert all(re.search(equal, record["equal"]) for record in shown["records"])
    assert {slope["curve"] for slope in shown["slopes"]} == curves


def test_a_loss_or_a_gradient_that_differs_is_found() -> None:
    from lavit_cli.bench.workloads.train import same_step

    one, other = torch.ones(3), torch.tensor([1.0, 1.0, 1.1])
    assert "losses differ by 0e+00" in same_step("fp32")((2.0, one), (2.0, one))
    with pytest.raises(Unequal, match=r"losses 2.0000000 and 2.0001000, expected within 1e-05"):
        same_step("fp32")((2.0, one), (2.0001, one))
    with pytest.raises(Unequal, match="relative difference"):
        same_step("fp32")((2.0, one), (2.0, other))


def test_other_distributions_are_found() -> None:
    from lavit_cli.bench.workloads import generate
    from lavit_cli.bench.workloads.language_models import ModelSize

    model = ModelSize(width=32, layers=1, heads=2, mlp_dim=64, text_vocab=500, codes=64)
    [made] = [generate.drawn(BenchSettings(), model, ["a red cat"], 2, "fp32", name="one prompt")]
    steps = made.ours.run()
    assert "distributions of 2 steps" in made.equal(None, steps)
    other = dataclasses.replace(steps[1], scores=steps[1].scores.flip(-1))
    with pytest.raises(Unequal, match="distributions differ by up to"):
        made.equal(None, [steps[0], other])


@pytest.mark.slow
def test_every_workload_holds_its_arms_equal(here, tiny_networks: None, tmp_path: Path) -> None:
    done = here("bench", "--dtype", "bf16", "--pairs", "3", "--out", tmp_path / "result.json")
    assert done.code == 0, done.err
    result = read_result(tmp_path / "result.json")
    covered = {record.workload for record in result.records} | {one.workload for one in result.omissions}
    assert covered == set(WORKLOADS)
    assert all(record.equal for record in result.records)

"""Counts on the meta device, against those of the same network on a CPU and by hand."""

import pytest
import torch
import torch.nn.functional as F
from lavit_trainkit.flops import Counts, forward_flops, training_counts, with_recomputed_block
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Attending(nn.Module):
    def __init__(self, *, spelled_out: bool = False) -> None:
        super().__init__()
        self.spelled_out = spelled_out
        self.conv, self.linear, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 24), nn.LayerNorm(8)

    def forward(self, pixels):
        rows = self.norm(self.conv(pixels).flatten(2).transpose(1, 2))
        q, k, v = self.linear(rows).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        if self.spelled_out:
            return ((q @ k.transpose(-1, -2) / 2).softmax(-1) @ v).square().sum()
        return F.scaled_dot_product_attention(q, k, v).square().sum()


def on_meta():
    with torch.device("meta"):
        return Attending()


def test_forward_operations_equal_the_formula() -> None:
    rows, matrices = 2 * 25, 3 * 8 * 9 + 8 * 24
    by_hand = 2 * rows * matrices + 4 * rows * 25 * 8
    absent = on_meta()
    assert forward_flops(lambda: absent(torch.zeros(2, 3, 5, 5, device="meta"))) == by_hand


def test_training_counts_equal_those_on_a_cpu() -> None:
    absent, real, pixels = on_meta(), Attending(spelled_out=True), torch.randn(2, 3, 5, 5)
    found = training_counts(absent, lambda: absent(pixels.to("meta")))
    counter = FlopCounterMode(display=False)
    with counter:
        real(pixels).backward()
    scores = 2 * 2 * (2 * 25) * 25 * 4  # one product of all heads; a fused backward computes it once more
    assert found.flops == counter.get_total_flops() + scores


def test_kept_activations_equal_those_of_the_fused_kernel_on_a_cpu() -> None:
    absent, real, pixels = on_meta(), Attending(), torch.randn(2, 3, 5, 5)
    own, kept = {parameter.untyped_storage()._cdata for parameter in real.parameters()}, {}

    def pack(value):
        storage = value.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        real(pixels)
    found = training_counts(absent, lambda: absent(pixels.to("meta"))).kept_bytes
    # Either kernel keeps a log-sum of each row and head, with other padding; the GPU's two numbers of its dropout.
    assert found == pytest.approx(sum(storage.nbytes() for storage in kept.values()), abs=700)


def test_grouped_queries_count_as_many_heads() -> None:
    def run():
        q, k, v = (torch.zeros(1, heads, 10, 4, device="meta") for heads in (4, 2, 2))
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    assert forward_flops(run) == 4 * 4 * 10 * 10 * 4


def test_checkpointing_adds_one_block() -> None:
    plain, checkpointed = Counts(flops=3, kept_bytes=120), Counts(flops=4, kept_bytes=10)
    assert with_recomputed_block(checkpointed, plain, 12) == Counts(flops=4, kept_bytes=20)

"""The packed forward against the paper's masked formulation, and the masked softmax."""

import pytest
import torch
from lavit_tokenizer.layers import policy_softmax
from lavit_tokenizer.objective import random_mask
from lavit_tokenizer.quantizer import nearest
from lavit_tokenizer.selector import gumbel, gumbel_mask

from .conftest import make_tokenizer


def masks(kind: str) -> torch.Tensor:
    stream = torch.Generator().manual_seed(1)
    keep = random_mask(torch.Size((6, 16)), (0.1, 0.9), stream)
    if kind == "extremes":
        keep[0], keep[1] = True, False
        keep[1, 5] = True
    return keep


@pytest.mark.parametrize("kind", ["random", "extremes"])
def test_packed_equals_masked(kind):
    tokenizer, keep = make_tokenizer(), masks(kind)
    x_BPD = torch.randn(6, 16, 16, generator=torch.Generator().manual_seed(0))
    packed = tokenizer.merger(x_BPD, keep)
    masked = tokenizer.merger.forward_masked(x_BPD, keep.float())
    # fp32: sums in another order; measured 4e-7.
    assert (packed - masked[keep]).norm() / packed.norm() < 1e-5
    z_TC, z_BPC = tokenizer.project(packed), tokenizer.project(masked)
    assert torch.equal(nearest(z_TC, tokenizer.quantizer.codebook), nearest(z_BPC[keep], tokenizer.quantizer.codebook))
    decoded = tokenizer.decoder(z_TC, keep.sum(1))
    reference = tokenizer.decoder.forward_masked(z_BPC, keep.float())
    assert (decoded - reference).norm() / reference.norm() < 1e-5


def test_masked_gradient_reaches_every_patch():
    tokenizer, keep = make_tokenizer(), masks("random")
    x_BPD = torch.randn(6, 16, 16)
    mask = keep.float().requires_grad_()
    rows = tokenizer.merger.forward_masked(x_BPD, mask)
    tokenizer.decoder.forward_masked(tokenizer.project(rows), mask).square().sum().backward()
    assert mask.grad is not None
    assert bool((mask.grad != 0).all())


def test_straight_through_mask_is_hard_forward_and_soft_backward():
    log_keep = torch.randn(2, 16, 2).log_softmax(-1).requires_grad_()
    noise = gumbel((2, 16, 2), torch.Generator().manual_seed(0))
    mask = gumbel_mask(log_keep, noise, tau=0.7)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    weights = torch.randn(2, 16)
    (mask * weights).sum().backward()
    got = log_keep.grad
    soft_input = log_keep.detach().clone().requires_grad_()
    (((soft_input + noise) / 0.7).softmax(-1)[..., 0] * weights).sum().backward()
    torch.testing.assert_close(got, soft_input.grad)


def test_policy_softmax_closed_rows_and_limits():
    scores = torch.tensor([[1.0, 200.0, 2.0]])
    weights = policy_softmax(scores, torch.tensor([[1.0, 0.0, 1.0]]))
    torch.testing.assert_close(weights[0, [0, 2]], torch.tensor([1.0, 2.0]).softmax(0))
    assert float(weights[0, 1]) == 0
    assert policy_softmax(scores, torch.zeros(1, 3)).abs().sum() == 0


def test_released_softmax_leaks_to_closed_keys_as_published():
    # One open key, 255 closed ones 12 nats above it: 14 % of the weight leaks.
    scores = torch.full((1, 256), 12.0)
    scores[0, 0] = 0.0
    policy = torch.zeros(1, 256)
    policy[0, 0] = 1.0
    weights = policy_softmax(scores, policy, released_eps=1e-6)
    assert 0.13 < float(weights[0, 1:].sum()) < 0.15

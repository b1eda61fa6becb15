"""The masked softmax, and its gradient to the policy."""

import torch
from lavit_tokenizer.layers import policy_softmax

from .conftest import keep_masks, make_tokenizer


def test_masked_gradient_reaches_every_patch():
    tokenizer, keep = make_tokenizer(), keep_masks()
    x_BPD = torch.randn(6, 16, 16)
    mask = keep.float().requires_grad_()
    rows = tokenizer.merger.forward_masked(x_BPD, mask)
    tokenizer.decoder.forward_masked(tokenizer.project(rows), mask).square().sum().backward()
    assert mask.grad is not None
    assert bool((mask.grad != 0).all())


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

"""Selection policies and the straight-through mask."""

import pytest
import torch
from lavit_core.errors import UsageError
from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.selector import (
    Selector,
    gumbel,
    gumbel_mask,
    select_patches,
    select_sample,
    select_threshold,
    select_topk,
)


@pytest.mark.parametrize("bias", [-50.0, -3.0, 0.0, 3.0, 50.0])
@pytest.mark.parametrize("seed", range(5))
def test_every_policy_keeps_at_least_one_patch(bias, seed):
    torch.manual_seed(seed)
    selector = Selector(16)
    with torch.no_grad():
        selector.out_conv[4].bias.copy_(torch.tensor([bias, 0.0]))
        log_keep = selector(torch.randn(7, 16, 16) * 10)
    keys = [str(index) for index in range(7)]
    for keep in (
        select_threshold(log_keep, 0.5),
        select_threshold(log_keep, 1.0),
        select_topk(log_keep, 0),
        select_sample(log_keep, seed=seed, keys=keys),
    ):
        assert keep.shape == (7, 16)
        assert bool(keep.any(1).all())


def test_the_best_patch_is_kept_when_none_passes():
    log_keep = torch.log(torch.tensor([[0.1, 0.4, 0.2], [0.3, 0.2, 0.1]]))
    both = torch.stack([log_keep, torch.log1p(-log_keep.exp())], dim=-1)
    expected = [[False, True, False], [True, False, False]]
    assert select_threshold(both, 0.5).tolist() == expected
    assert select_topk(both, 1).tolist() == expected


def test_equal_patches_below_the_threshold_are_kept_as_far_as_their_probabilities_add_up():
    flat, clear = [0.25] * 16, [0.9] * 4 + [0.01] * 12
    probability = torch.tensor([flat, clear])
    both = torch.stack([probability.log(), torch.log1p(-probability)], dim=-1)
    assert select_threshold(both, 0.5).sum(1).tolist() == [1, 4]
    keep = select_threshold(both, 0.5, least_share=0.5)
    assert keep.sum(1).tolist() == [2, 4]  # half of 16 * 0.25; half of 3.7 is less than what passes
    assert keep[1].tolist() == [True] * 4 + [False] * 12
    config = TokenizerConfig(grid=(4, 4), keep_threshold=0.5, least_share=1.0)
    assert select_patches(both, "threshold", config).sum(1).tolist() == [4, 4]


def test_topk_tells_apart_what_rounding_makes_equal_and_takes_the_first_of_equal_patches():
    odds = torch.tensor([[40.0, 60.0, 50.0, -9.0], [3.0, 3.0, 3.0, 3.0]])
    both = torch.stack([torch.nn.functional.logsigmoid(odds), torch.nn.functional.logsigmoid(-odds)], dim=-1)
    assert both[0, :3, 0].exp().unique().tolist() == [1.0]
    assert select_topk(both, 2).tolist() == [[False, True, True, False], [True, True, False, False]]


def test_select_patches_applies_the_policy():
    config = TokenizerConfig(grid=(2, 2), keep_threshold=0.3, keep_ratio=0.5)
    log_keep = torch.log(torch.tensor([[0.1, 0.4, 0.35, 0.5], [0.3, 0.2, 0.1, 0.05]]))
    both = torch.stack([log_keep, torch.log1p(-log_keep.exp())], dim=-1)
    assert torch.equal(select_patches(both, "threshold", config), select_threshold(both, 0.3))
    assert torch.equal(select_patches(both, "topk", config), select_topk(both, 2))
    for tokens in (1, 3, 4):
        assert select_patches(both, "topk", config, tokens=tokens).sum(1).tolist() == [tokens, tokens]
    for tokens in (0, 5):
        with pytest.raises(UsageError, match=f"tokens: found {tokens}, expected 1 to 4, the patches of an image"):
            select_patches(both, "topk", config, tokens=tokens)
    drawn = select_patches(both, "sample", config, seed=3, keys=["a", "b"])
    assert torch.equal(drawn, select_sample(both, seed=3, keys=["a", "b"]))
    with pytest.raises(UsageError, match="expected the images' keys"):
        select_patches(both, "sample", config)
    with pytest.raises(UsageError, match="selection best: expected threshold, topk or sample"):
        select_patches(both, "best", config)


def test_an_untrained_selector_starts_at_the_keep_ratio():
    selector = Selector(16)
    with torch.no_grad():
        for parameter in selector.parameters():
            parameter.zero_()
        selector.start_at(0.3)
        log_keep = selector(torch.randn(2, 4, 16))
    torch.testing.assert_close(log_keep[..., 0].exp(), torch.full((2, 4), 0.3))


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

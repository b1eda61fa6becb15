"""Keep masks of the same number of tokens: by one threshold, the best of each image, at random."""

import numpy as np
import pytest
from lavit_core.errors import UsageError
from lavit_evaluation.tokenizing.rates import check_rates, masks_at, random_masks, read_rates

KEYS = [f"{index}.png" for index in range(30)]
ODDS = (np.random.default_rng(0).normal(size=(30, 64)) * 3 + np.linspace(-6, 6, 30)[:, None]).astype(np.float32)


@pytest.mark.parametrize("rate", [1, 8, 32, 64])
def test_each_method_keeps_as_many_as_asked(rate: int) -> None:
    masks = masks_at(ODDS, rate, KEYS, seed=0)
    assert masks["learned"].sum(1).mean() == rate
    assert masks["learned"].any(1).all()
    assert (masks["topk"].sum(1) == rate).all()
    assert (masks["random"].sum(1) == rate).all()


def test_learned_is_one_threshold_and_topk_the_best_of_each_image() -> None:
    masks = masks_at(ODDS, 12, KEYS, seed=0)
    best = ODDS.max(1, keepdims=True) == ODDS
    assert ODDS[masks["learned"] & ~best].min() > ODDS[~masks["learned"]].max()
    assert masks["learned"].sum(1).std() > 5  # images differ, and so do their tokens
    for odds, mask in zip(ODDS, masks["topk"], strict=True):
        assert odds[mask].min() > odds[~mask].max()


def test_random_masks_are_the_seeds_and_the_keys_and_grow() -> None:
    eight, twelve = (random_masks(KEYS, 64, rate, seed=3) for rate in (8, 12))
    assert (twelve & eight == eight).all()
    assert len({mask.tobytes() for mask in eight}) == 30
    assert np.array_equal(random_masks(KEYS[::-1], 64, 8, seed=3), eight[::-1])
    assert not np.array_equal(random_masks(KEYS, 64, 8, seed=4), eight)


def test_what_is_no_number_of_tokens() -> None:
    assert read_rates("8, 12,8,16") == (8, 12, 16)
    for text in ("8,,9", "", "1.5", "-3", "a"):
        with pytest.raises(UsageError, match="expected whole numbers"):
            read_rates(text)
    with pytest.raises(UsageError, match="found 65 tokens an image, expected 1 to 64"):
        check_rates([8, 65], 64)
    with pytest.raises(UsageError, match="found 0"):
        check_rates([0], 64)

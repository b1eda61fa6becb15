"""The plan of a run."""

from collections.abc import Callable
from typing import Any

from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.plan import plan


def test_the_plan_counts_without_making_weights(world: Any, tiny_config: Callable[..., PretrainConfig]) -> None:
    found = plan(tiny_config(), None, [world.tokens])
    assert found["images"] == 48
    assert found["tokens_per_step"] == 400
    assert 3 <= found["mean_codes"] <= 6
    assert 20_000 < found["parameters"] < 100_000

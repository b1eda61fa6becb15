"""The learning-rate schedule."""

import pytest
from lavit_trainkit.schedule import warmup_cosine


def test_warmup_then_cosine_to_the_floor() -> None:
    rates = [warmup_cosine(step, 100, warmup_steps=10, floor=0.1) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert max(rates) == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)

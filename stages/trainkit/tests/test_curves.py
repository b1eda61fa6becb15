"""Curves that rise, stay, or do what they should."""

import math

import pytest
from lavit_trainkit.curves import diagnose_loss, last_mean

SETTINGS = {"num_steps": 1000, "warmup_steps": 50, "lower": "lr"}


def rows(values: list[float], every: int = 20, first: int = 0) -> list[dict]:
    return [{"step": first + every * (place + 1), "loss": value} for place, value in enumerate(values)]


def noise(place: int) -> float:
    return 0.1 * math.sin(12.9898 * place)


def test_a_falling_loss_is_left_alone_at_every_row() -> None:
    curve = rows([3 * math.exp(-place / 15) + 0.5 + noise(place) for place in range(50)])
    for end in range(1, 51):
        assert diagnose_loss(curve[:end], "loss", **SETTINGS) == []


def test_a_loss_that_turns_round_is_diverging() -> None:
    curve = rows([2 - 0.05 * place for place in range(20)] + [1.0 + 0.2 * place for place in range(20)])
    said = [diagnose_loss(curve[:end], "loss", **SETTINGS) for end in range(1, 41)]
    assert said[19] == []
    [found] = said[-1]
    assert found.kind == "diverging"
    assert "lower lr" in found.message
    assert "\n" not in found.message


def test_a_high_start_is_no_rise() -> None:
    """The first steps of warm-up are lower than what comes after, as with a model that begins at chance."""
    curve = rows([0.4] * 2 + [1.0] * 20)
    assert [found.kind for found in diagnose_loss(curve, "loss", **SETTINGS)] != ["diverging"]


def test_a_flat_loss_is_said_after_a_third_of_the_steps() -> None:
    curve = rows([2 + 0.2 * noise(place) for place in range(30)], first=400)
    where = {"first": 400, **SETTINGS}
    assert diagnose_loss(curve[:16], "loss", **where) == []
    [found] = diagnose_loss(curve[:17], "loss", **where)
    assert (found.kind, "340 of 1000 steps" in found.message) == ("not falling", True)
    assert diagnose_loss(curve, "loss", falls=False, **where) == []


def test_too_few_rows_say_nothing() -> None:
    assert diagnose_loss(rows([1.0, 9.0] * 7), "loss", **SETTINGS) == []
    assert last_mean(rows([1.0, 2.0]), "loss") is None
    assert last_mean([{"step": 1}, *rows([1.0, 2.0, 3.0])], "loss", 2) == pytest.approx(2.5)

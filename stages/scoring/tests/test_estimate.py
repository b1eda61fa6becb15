"""Estimates and their intervals, against published values and values worked out by hand."""

import math

import pytest
from lavit_scoring.estimate import by_combination, clustered_proportion, mean, proportion, ratio, wilson


def names(count: int) -> list[str]:
    return [str(index) for index in range(count)]


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for (hits, count), ends in {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0, 0.1611),
                                (1, 29): (0.0061, 0.1718)}.items():  # fmt: skip
        assert wilson(hits, count) == pytest.approx(ends, abs=5e-5)
    assert wilson(20, 20)[1] == 1.0
    with pytest.raises(ValueError, match="found 3 of 2"):
        wilson(3, 2)


def test_metrics_carry_counts_and_empty_ones_say_nothing() -> None:
    assert proportion([]).value is None
    assert proportion([True, False, True, True]).value == 0.75
    metric = mean([1.0, 2.0, 3.0, 4.0])
    assert (metric.value, metric.n) == (2.5, 4)
    assert metric.high - metric.low == pytest.approx(2 * 1.96 * math.sqrt(5 / 3 / 4), rel=1e-3)
    split = by_combination("x", [True, False, True], ["seen", "unseen", "seen"])
    assert {name: one.value for name, one in split.items()} == {"x": 2 / 3, "x.seen": 1.0, "x.unseen": 0.0}
    assert set(by_combination("x", [True], [""])) == {"x"}


def test_patches_of_one_image_do_not_narrow_the_interval() -> None:
    alike = ratio([64, 0, 64, 0], [64, 64, 64, 64])
    assert (alike.value, alike.n) == (0.5, 256)
    assert alike.high - alike.low > 0.9


def test_objects_of_one_image_do_not_narrow_the_interval() -> None:
    hits = [index % 3 > 0 for index in range(300)]
    alone = clustered_proportion(hits, names(300))
    low, high = wilson(sum(hits), 300)
    assert (alone.low, alone.high) == pytest.approx((low, high), abs=1e-3)
    doubled = clustered_proportion([*hits, *hits], [*names(300), *names(300)])
    assert doubled.n == 600
    assert (doubled.low, doubled.high) == pytest.approx((low, high), abs=1e-3)
    perfect = clustered_proportion([True] * 40, [*names(20), *names(20)])
    assert (perfect.low, perfect.high) == wilson(20, 20)
    assert clustered_proportion([], []).value is None

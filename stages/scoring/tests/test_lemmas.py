"""Lemmas by rule."""

import pytest
from lavit_scoring.metrics.lemmas import by_rules


@pytest.mark.parametrize(
    ("answer", "lemmas"),
    [
        ("dogs", "dog"),
        ("skateboarding", "skateboard"),
        ("Two men riding", "two man ride"),
        ("running", "run"),
        ("glass", "glass"),
        ("tennis", "tennis"),
        ("building", "building"),
        ("berries", "berry"),
        ("boxes", "box"),
        ("shoes", "shoe"),
        ("parked", "park"),
        ("red bus", "red bus"),
        ("10", "10"),
    ],
)
def test_lemmas_by_rule(answer: str, lemmas: str) -> None:
    assert by_rules(answer) == lemmas

"""lavit-scoring derives the same seeds as lavit-core, which it does not import."""

from lavit_core import seeds
from lavit_scoring import bootstrap


def test_seeds_of_a_purpose_are_equal() -> None:
    for seed, purpose in ((0, ("bootstrap", "accuracy")), (7, ("bootstrap", "paired cider")), (2**40, ("x", 3))):
        assert bootstrap.derive_seed(seed, *purpose) == seeds.derive_seed(seed, *purpose)

"""Best of N: seeds of the candidates, and which of them is kept."""

import numpy as np
from lavit.reranking import candidate_seeds, choose_best


def test_the_first_candidate_has_the_seed_of_the_image() -> None:
    seeds = candidate_seeds([5, 6], 3)
    assert seeds == [*candidate_seeds([5], 3), *candidate_seeds([6], 3)]
    assert (seeds[0], seeds[3]) == (5, 6)
    assert len(set(seeds)) == 6
    assert candidate_seeds([5, 6], 1) == [5, 6]


def test_the_best_of_every_few_is_kept_and_the_first_of_equals() -> None:
    scores = [0.1, 0.3, 0.2, -1.0, -5.0, -1.0]
    assert choose_best(scores, 3).tolist() == [1, 3]
    assert choose_best(np.reshape(scores, (2, 3)), 3).tolist() == [1, 3]
    assert choose_best(scores, 1).tolist() == [0, 1, 2, 3, 4, 5]

"""Metrics of tokens, each against a value worked out by hand."""

import numpy as np
import pytest
from lavit_evaluation.token_metrics import code_metrics, count_metrics


def test_perplexity_of_even_codes_is_their_number() -> None:
    metrics = code_metrics("tokens", np.array([5, 5, 0, 5, 5, 0, 0, 0]))
    assert metrics["tokens.perplexity"].value == pytest.approx(4.0)
    assert metrics["tokens.code_usage"].value == 0.5


def test_tokens_an_image() -> None:
    metrics = count_metrics([1, 3, 8], (4, 5))
    named = {name.removeprefix("tokens."): metric.value for name, metric in metrics.items()}
    assert named == {
        "kept": 4.0, "kept_sd": pytest.approx((26 / 3) ** 0.5), "kept_min": 1, "kept_max": 8, "patches": 20,
    }  # fmt: skip

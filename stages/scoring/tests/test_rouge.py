"""ROUGE-L by hand."""

from lavit_scoring.metrics.rouge import common_length, rouge_l


def test_longest_common_subsequence() -> None:
    assert common_length(["a", "b", "c", "d"], ["b", "x", "d"]) == 2
    assert common_length([], ["a"]) == 0
    assert rouge_l(["a"], [["b"]]) == 0.0

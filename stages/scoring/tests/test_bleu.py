"""BLEU by hand."""

from lavit_scoring.metrics.bleu import bleu_of, bleu_parts


def test_bleu_of_nothing_is_nothing() -> None:
    assert bleu_of(bleu_parts([], [["a"]])).max() == 0.0

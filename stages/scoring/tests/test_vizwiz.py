"""VizWiz by hand: answers, and how sure a model is that a question can be answered."""

from collections.abc import Callable
from typing import Any

import pytest


def test_vizwiz_and_answerability(score: Callable[..., dict[str, Any]]) -> None:
    rows = [
        {
            "image": f"VizWiz_val_{n}.jpg",
            "question": "?",
            "answerable": n % 2,
            "answer_type": "other" if n % 2 else "unanswerable",
            "answers": [{"answer": "can" if n % 2 else "unanswerable", "answer_confidence": "yes"}] * 10,
        }
        for n in range(4)
    ]
    result = score("vizwiz", [{"image": row["image"], "answer": "can"} for row in rows], rows)
    assert result["figures"]["accuracy"]["value"] == 50.0  # people count by position although their records are equal
    assert result["figures"]["accuracy.answer_type.other"]["value"] == 100.0
    assert 0 < result["figures"]["as_caption.bleu_1"]["value"] < 1
    sure = [{"image": row["image"], "answerable": [0.9, 0.8, 0.2, 0.7][n]} for n, row in enumerate(rows)]
    result = score("vizwiz-answerability", sure, rows)
    # Unanswerable are 0 and 2; sorted by 1 - answerable: 2 (hit), 3, 1, 0 (hit): 0.5 x 1 + 0.5 x 2/4.
    assert result["figures"]["average_precision"]["value"] == 75.0
    assert result["figures"]["f1"]["value"] == pytest.approx(66.67)  # 2 is claimed, 0 is missed

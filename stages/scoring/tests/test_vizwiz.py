"""VizWiz by hand: answers, and how sure a model is that a question can be answered."""

from collections.abc import Callable
from typing import Any

import pytest
from lavit_scoring.errors import InputError


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
    with pytest.raises(InputError, match=r"answerable of image '.*' is 1000.*, expected a number"):
        score("vizwiz-answerability", [{**sure[0], "answerable": 10**400}, *sure[1:]], rows)


def test_human_answers_are_records_or_texts(score: Callable[..., dict[str, Any]]) -> None:
    rows = [{"image": f"{n}.jpg", "question": "?", "answers": ["can"] * 8 + ["tin"] * n} for n in (1, 2)]
    records = [{**row, "answers": [{"answer": text} for text in row["answers"]]} for row in rows]
    said = [{"image": row["image"], "answer": "tin"} for row in rows]
    assert score("vizwiz", said, rows)["figures"] == score("vizwiz", said, records)["figures"]
    for wrong in ("['can']", [5], [{"text": "can"}]):
        with pytest.raises(InputError, match=r"row 2: answers is .*, expected a list of texts or {answer}"):
            score("vizwiz", said, [rows[0], {**rows[1], "answers": wrong}])
    with pytest.raises(InputError, match=r"2.jpg has no human answers; the test split"):
        score("vizwiz", said, [rows[0], {"image": "2.jpg", "question": "?"}])

"""What a person reads: the score with its marks, the list of benchmarks and what is there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.errors import InputError
from lavit_scoring.show import list_rows, show_list, show_result

TRUTH = {
    "annotations": [
        {"question_id": n, "image_id": 1, "answers": [{"answer": "yes", "answer_id": i} for i in range(10)]}
        for n in range(4)
    ]
}


def test_a_partial_score_is_marked_first(score: Callable[..., dict[str, Any]]) -> None:
    answers = [{"question_id": n, "answer": "yes"} for n in range(2)]
    lines = show_result(score("vqav2", answers, TRUTH, partial=True)).splitlines()
    assert lines[1] == "PARTIAL: 2 of 4 items. Not a score of vqav2."
    assert lines[2].split() == ["value", "95", "%", "count"]
    assert lines[3].split() == ["accuracy", "100.0", "100.0", "-", "100.0", "2"]
    assert "not measured here: accuracy 66.0 / 68.2 / 68.3" in lines[-1]


def test_the_list_contains_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "vqa").mkdir()
    (tmp_path / "vqa" / "v2_mscoco_val2014_annotations.json").write_text("{}")
    rows = {row["benchmark"]: row for row in list_rows(tmp_path)}
    assert rows["vqav2"]["found"]["annotations"].endswith("vqa/v2_mscoco_val2014_annotations.json")
    assert rows["vqav2"]["found"]["images"] is None
    assert rows["gqa"]["source"].startswith("https://")
    assert "nocaps_val_4500_captions.json" in show_list(list_rows(None))
    assert "questions: v2_OpenEnded_mscoco_val2014_questions.json  -> not found" in show_list(list_rows(tmp_path))
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "v2_mscoco_val2014_annotations.json").write_text("{}")
    with pytest.raises(InputError, match="expected one place"):
        list_rows(tmp_path)
    with pytest.raises(InputError, match="not a folder; give the one that contains the downloads"):
        list_rows(tmp_path / "none")

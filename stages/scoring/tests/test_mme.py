"""MME by hand, by its own script's rules and by those of lmms-eval."""

import json
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.catalogue import find_benchmark
from lavit_scoring.errors import InputError, UsageError
from lavit_scoring.mme import COGNITION, PERCEPTION
from lavit_scoring.scorers import score_file
from lavit_scoring.task import ScoringTask

COUNT = [
    ("a.jpg", "Two dogs? Please answer yes or no.", "Yes", "Yes, two."),
    ("a.jpg", "Three dogs? Please answer yes or no.", "No", "No"),
    ("b.jpg", "One cat? Please answer yes or no.", "Yes", "yes"),
    ("b.jpg", "Two cats? Please answer yes or no.", "No", "Yes"),
    ("c.jpg", "One car? Please answer yes or no.", "Yes", "The answer is yes"),
    ("c.jpg", "No car? Please answer yes or no.", "No", "n"),
]
Rows = list[tuple[str, str, str, str]]


def write(folder: Path, tasks: dict[str, Rows], columns: int) -> Path:
    folder.mkdir()
    for name, rows in tasks.items():
        (folder / f"{name}.txt").write_text("".join("\t".join(row[:columns]) + "\n" for row in rows))
    return folder


def score(tmp_path: Path, tasks: dict[str, Rows], results: Path | None = None, **options: Any) -> dict[str, Any]:
    truths = write(tmp_path / "Your_Results", tasks, 3)
    replies = results or write(tmp_path / "replies", tasks, 4)
    return score_file(find_benchmark("mme"), ScoringTask(results=replies, annotations=truths, **options), None)


def values(result: dict[str, Any]) -> dict[str, float]:
    return {name: metric["value"] for name, metric in result["figures"].items()}


def test_a_task_by_hand(tmp_path: Path) -> None:
    result = score(tmp_path, {"count": COUNT})
    # Right: a both, b one, c none (neither reply is yes or no): 3 of 6 and 1 image of 3.
    assert values(result) == {"count": 83.33, "count.accuracy": 50.0, "count.accuracy_plus": 33.33}
    assert result["notes"]["replies_neither_yes_nor_no"] == "2 of 6, counted as wrong"
    assert result["skipped"]["perception"].startswith("needs all 10 tasks, existence, position")
    assert result["items"]["scored"] == 6
    assert result["figures"]["count"]["low"] < 83.33 < result["figures"]["count"]["high"]


def test_the_harness_reads_a_letter(tmp_path: Path) -> None:
    result = score(tmp_path, {"count": COUNT}, protocol="lmms-eval")
    assert values(result) == {"count": 100.0, "count.accuracy": 66.67, "count.accuracy_plus": 33.33}


def test_sums_over_all_tasks(tmp_path: Path) -> None:
    right: Rows = [(image, question, truth, truth) for image, question, truth, _ in COUNT]
    tasks = dict.fromkeys((*PERCEPTION, *COGNITION), right) | {"OCR": COUNT, "code_reasoning": COUNT}
    result = score(tmp_path, tasks)
    found = values(result)
    assert (found["perception"], found["cognition"], found["total"]) == (1883.33, 683.33, 2566.67)
    assert list(found)[:3] == ["total", "perception", "cognition"]
    assert not result["skipped"]
    assert result["figures"]["total"]["count"] == 6 * 14


def test_results_of_any_model_as_rows(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    rows = [{"category": "count", "image": i, "question": q, "answer": reply} for i, q, _, reply in reversed(COUNT)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert values(score(tmp_path, {"count": COUNT}, file))["count"] == 83.33
    file.write_text(json.dumps({"image": "a"}) + "\n")
    with pytest.raises(InputError, match=r"answers.jsonl: row 1 is .* expected category, image, question and answer"):
        score_file(find_benchmark("mme"), ScoringTask(results=file, annotations=tmp_path / "Your_Results"), None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (COUNT[:3], "image b.jpg has 1 questions, expected two"),
        ([*COUNT, COUNT[0]], "this question of a.jpg occurs twice"),
        ([("a.jpg", "?", "maybe", "no")], "count.txt:1: the answer is \"maybe\", expected Yes or No"),
        ([("a.jpg", "?")], "count.txt:1: 2 columns by tabs, expected 3"),
    ],
)  # fmt: skip
def test_damaged_tasks(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(tmp_path, {"count": rows})


def test_replies_to_other_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 of 6 questions have no reply, say count / c.jpg / One car\?"):
        score(tmp_path, {"count": COUNT}, write(tmp_path / "some", {"count": COUNT[:4]}, 4))
    more = [*COUNT, ("d.jpg", "x", "Yes", "yes")]
    task = ScoringTask(results=write(tmp_path / "more", {"count": more}, 4), annotations=tmp_path / "Your_Results")
    with pytest.raises(InputError, match=r"1 replies belong to no question, say count / d.jpg / x"):
        score_file(find_benchmark("mme"), task, None)
    with pytest.raises(InputError, match=r"none of MME's task files \(existence.txt"):
        score_file(find_benchmark("mme"), ScoringTask(results=tmp_path, annotations=tmp_path), None)
    with pytest.raises(UsageError, match="an MME score is a sum over whole tasks"):
        score_file(find_benchmark("mme"), ScoringTask(results=tmp_path, annotations=tmp_path, partial=True), None)
    with pytest.raises(InputError, match="file not found"):
        score_file(find_benchmark("mme"), ScoringTask(results=tmp_path / "x", annotations=tmp_path), None)

"""TextVQA result files: {question_id, answer}, against ten human answers a question."""

from pathlib import Path
from typing import Any

from lavit_scoring.bootstrap import percent
from lavit_scoring.errors import InputError, shorten
from lavit_scoring.files import read_json
from lavit_scoring.metrics.answer_normalization import normalize_vqa, one_line
from lavit_scoring.metrics.vqa_accuracy import agreement
from lavit_scoring.results import align, read_results
from lavit_scoring.task import ScoringResult, ScoringTask
from lavit_scoring.vqa import answer_texts


def score_textvqa(task: ScoringTask) -> ScoringResult:
    """Score a result file by the challenge's rules. Raises InputError if ids do not match."""
    rows = _read(task.annotations)
    answers, notes = read_results(task.results, ids=("question_id",), values=("answer", "text"), as_id=str)
    ids, more = align(task, answers, rows, what="question")
    scores = [accuracy(answers[name], rows[name]["answers"]) for name in ids]
    images = [rows[name]["image_id"] for name in ids]
    return ScoringResult(
        ids=ids, expected=len(rows), unit="per cent", images=images, items={"accuracy": scores},
        metrics={"accuracy": percent(scores, images, task.seed, "accuracy")},
        notes=notes | more | {"empty_answers": sum(not answers[name].strip() for name in ids)},
    )  # fmt: skip


def accuracy(answer: str, truths: list[str]) -> float:
    """Return one answer's accuracy: all are normalised, unanimous ones too. Source: M4C's evaluator (EvalAI)."""
    return agreement(_normalised(answer), [_normalised(truth) for truth in truths])


def _normalised(text: str) -> str:
    # Before VQAv2's rules: no commas and question marks, so `1,000` is 1000; 's is a word of its own.
    bare = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return normalize_vqa(one_line(bare))


def _read(file: Path) -> dict[str, dict[str, Any]]:
    content = read_json(file)
    rows = content.get("data") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{file}: expected an object with a list `data`, as TextVQA_0.5.1_val.json has")
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not {"question_id", "image_id", "answers"} <= row.keys() or not row["answers"]:
            raise InputError(f"{file}: row {number} is {shorten(row)}, expected question_id, image_id and answers")
        if not isinstance(row["image_id"], int | str):
            raise InputError(f"{file}: row {number}: image_id is {shorten(row['image_id'])}, expected a number or text")
        if str(row["question_id"]) in found:
            raise InputError(f"{file}: question_id {row['question_id']} occurs twice")
        found[str(row["question_id"])] = row | {"answers": answer_texts(file, number, row["answers"])}
    return found

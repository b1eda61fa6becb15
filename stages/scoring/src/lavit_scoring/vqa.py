"""VQAv2 and OK-VQA result files: list of {question_id, answer}, against ten human answers a question."""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavit_scoring.bootstrap import percent, percent_by
from lavit_scoring.errors import InputError, shorten
from lavit_scoring.files import read_json
from lavit_scoring.metrics.lemmas import Lemmatize, as_given, lemmatizer
from lavit_scoring.metrics.vqa_accuracy import lavit_accuracy, official_accuracy
from lavit_scoring.results import align, read_results
from lavit_scoring.task import ScoringResult, ScoringTask


@dataclass(frozen=True, slots=True)
class Truth:
    """What humans answered to one question."""

    image: Hashable
    question_type: str
    answer_type: str
    answers: tuple[str, ...]
    records: tuple[Hashable, ...] | None
    """What else each answer's record contains; None if every answer_id is unique."""


def score_vqa(task: ScoringTask) -> ScoringResult:
    """Score a result file by the server's rules or LaVIT's. Raises InputError if ids do not match."""
    rules = official_accuracy
    lemmas: Lemmatize = as_given
    if task.protocol == "lavit":
        rules, lemmas = lavit_accuracy, lemmatizer(task.lemmatizer or "given")
    truths, type_names = read_truths(task.annotations)
    if task.questions is not None:
        check_questions(task.questions, task.annotations, truths)
    answers, notes = read_results(task.results, ids=("question_id",), values=("answer",))
    ids, more = align(task, answers, truths, what="question")
    shown = [truths[name] for name in ids]
    scores = [
        rules(lemmas(answers[name]), [lemmas(text) for text in truth.answers], truth.records)
        for name, truth in zip(ids, shown, strict=True)
    ]
    images = [truth.image for truth in shown]
    groups = {
        "accuracy.answer_type": [truth.answer_type for truth in shown],
        "accuracy.question_type": [type_names.get(truth.question_type, truth.question_type) for truth in shown],
    }
    metrics = {"accuracy": percent(scores, images, task.seed, "accuracy")}
    for name, group in groups.items():
        metrics |= percent_by(name, scores, images, group, task.seed)
    notes |= more | {"empty_answers": sum(not answers[name].strip() for name in ids)}
    if any(truth.records is not None for truth in shown):
        notes["answers_without_id"] = (
            "some human answers have no answer_id of their own; equal ones are left out together, as the server does"
        )
    return ScoringResult(ids=ids, expected=len(truths), unit="per cent", items={"accuracy": scores}, images=images,
                         metrics=metrics, notes=notes)  # fmt: skip


def read_truths(file: Path) -> tuple[dict[int | str, Truth], dict[str, str]]:
    """Return {question_id: truth} of an annotation file, and the names of its question types (OK-VQA).

    Raises InputError naming the question that differs from the official layout.
    """
    content = read_json(file)
    rows = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{file}: no annotations, expected a list `annotations` as VQAv2's annotation files have")
    type_names = content.get("question_types")
    truths: dict[int | str, Truth] = {}
    for row in rows:
        try:
            name, truth = row["question_id"], _truth(row)
        except (KeyError, TypeError, AttributeError) as error:
            where = row.get("question_id") if isinstance(row, dict) else row
            raise InputError(
                f"{file}: question {where!r}: no usable {error}, expected question_id, image_id and answers with text"
            ) from None
        ids = {"question_id": name, "image_id": truth.image}
        kinds = {"question_type": truth.question_type, "answer_type": truth.answer_type}
        for column, value in {**ids, **kinds}.items():
            if not isinstance(value, int | str):
                where = f"{file}: {column} of question {shorten(name)}"
                raise InputError(f"{where} is {shorten(value)}, expected a number or text")
        if name in truths:
            raise InputError(f"{file}: question_id {name!r} occurs twice")
        truths[name] = truth
    return truths, dict(type_names) if isinstance(type_names, dict) else {}


def _truth(row: dict[str, Any]) -> Truth:
    answers = row["answers"]
    texts = tuple(answer["answer"] for answer in answers)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise TypeError("answers")
    answer_ids = {answer.get("answer_id") for answer in answers}
    unique = None not in answer_ids and len(answer_ids) == len(answers)
    return Truth(
        image=row["image_id"],
        question_type=row.get("question_type") or "",
        answer_type=row.get("answer_type") or "",
        answers=texts,
        records=None if unique else tuple(_rest(answer) for answer in answers),
    )


def answer_texts(file: Path, number: int, answers: Any) -> list[str]:
    """Return what humans answered, from texts or from records {answer}. Raises InputError naming the row."""
    given = answers if isinstance(answers, list) else []
    texts: list[Any] = [answer.get("answer") if isinstance(answer, dict) else answer for answer in given]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{file}: row {number}: answers is {shorten(answers)}, expected a list of texts or {{answer}}")
    return texts


def _rest(answer: dict[str, Any]) -> Hashable:
    return tuple(sorted((key, str(value)) for key, value in answer.items() if key != "answer"))


def check_questions(file: Path, annotations: Path, truths: dict[int | str, Truth]) -> None:
    """Raise InputError unless the question file asks exactly what the annotations answer."""
    asked = {row["question_id"] for row in read_question_rows(file)}
    if lacking := truths.keys() - asked:
        raise InputError(f"{file}: {len(lacking)} questions of {annotations} are missing, say {min(lacking, key=str)}")
    if extra := asked - truths.keys():
        raise InputError(f"{annotations}: {len(extra)} questions of {file} have no answers, say {min(extra, key=str)}")


def read_question_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows {question_id, image_id, question} of a question file.

    Raises InputError naming the row that is not one, or the question that occurs twice.
    """
    content = read_json(file)
    rows = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{file}: expected an object with a list `questions`, as VQAv2's question files have")
    seen: set[int | str] = set()
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not {"question_id", "image_id", "question"} <= row.keys():
            raise InputError(f"{file}: row {number} is {shorten(row)}, expected question_id, image_id and question")
        name = row["question_id"]
        if not isinstance(name, int | str):
            raise InputError(f"{file}: row {number}: question_id is {shorten(name)}, expected a number or text")
        if not isinstance(row["question"], str):
            raise InputError(f"{file}: row {number}: question is {shorten(row['question'])}, expected text")
        if name in seen:
            raise InputError(f"{file}: row {number}: question_id {name!r} occurs twice, expected each once")
        seen.add(name)
    return rows

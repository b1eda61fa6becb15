"""Benchmarks of questions with choices: SEED-Bench (images), MMMU, AI2D, ScienceQA (images), MMBench.

A result is a reply, or the log-likelihood of each choice (`log_likelihoods`), which needs no instruction tuning.
"""

import ast
import csv
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lavit_scoring.bootstrap import percent, percent_by
from lavit_scoring.errors import InputError, shorten
from lavit_scoring.files import read_bytes, read_json
from lavit_scoring.letters import (
    LETTERS,
    bare_letter,
    exact,
    first_character,
    last_letter,
    letter_and_stop,
    llava_letter,
    only_letter,
)
from lavit_scoring.open_answers import answers_open
from lavit_scoring.results import align, read_results, read_rows
from lavit_scoring.task import ScoringResult, ScoringTask

IDS = ("question_id", "id", "index")
"""Names that the column of a result's question may have."""

HIDDEN_ANSWERS = ("?", "")
"""What test splits have in place of an open question's answer."""

ReadLetter = Callable[[str, Sequence[str]], str | None]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question; an open one (MMMU) has answers and no choices."""

    choices: tuple[str, ...]
    answers: tuple[str, ...]
    """The right letters, or the right texts of an open question."""
    image: Hashable
    """Questions that are drawn together for an interval."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Group -> the value of this question, say subject -> Art."""


def score_seed(task: ScoringTask) -> ScoringResult:
    """Score SEED-Bench's questions about images (types 1 to 9). Raises InputError if ids do not match."""
    content = read_json(task.annotations)
    rows = content.get("questions") if isinstance(content, dict) else None
    names = content.get("question_type") if rows else None
    types = {str(number): name for name, number in names.items()} if isinstance(names, dict) else {}
    questions: dict[str, Question] = {}
    columns = [f"choice_{letter}" for letter in "abcd"]
    for number, row in _rows(task.annotations, rows, ("question_id", "answer", "data_id", "choice_a")):
        if row.get("data_type", "image") == "image":
            if lacking := [column for column in columns if column not in row]:
                raise _unusable(task.annotations, number, "the question", row, f"a text under {lacking[0]}")
            kind = str(row.get("question_type_id"))
            questions[_new_id(task.annotations, number, row, "question_id", questions)] = Question(
                choices=tuple(str(row[column]) for column in columns),
                answers=(row["answer"],),
                image=_id(task.annotations, number, row, "data_id"),
                groups={"type": types.get(kind, kind)},
            )
    return _score(task, questions, exact if task.protocol == "official" else first_character)


def score_mmmu(task: ScoringTask) -> ScoringResult:
    """Score MMMU's validation questions, those with choices and open ones. Raises InputError if ids do not match."""
    questions: dict[str, Question] = {}
    rows = _rows(task.annotations, read_rows(task.annotations), ("id", "question_type", "options", "answer"))
    for number, row in rows:
        options = _listed(task.annotations, number, "options", row["options"])
        answer, is_open = row["answer"], row["question_type"] != "multiple-choice"
        is_list = not isinstance(answer, str) or (is_open and answer.startswith("["))
        answers = _listed(task.annotations, number, "answer", answer) if is_list else [answer]
        name = _new_id(task.annotations, number, row, "id", questions)
        questions[name] = Question(
            choices=() if is_open else tuple(map(str, options)),
            answers=tuple(map(str, answers)),
            image=name,
            groups={"subject": "_".join(name.split("_")[1:-1])},
        )
    return _score(task, questions, last_letter)


def score_ai2d(task: ScoringTask) -> ScoringResult:
    """Score AI2D's test questions. Raises InputError if ids do not match."""
    questions: dict[str, Question] = {}
    for number, row in _rows(task.annotations, read_rows(task.annotations), ("id", "options", "answer")):
        choices, letter = _choices(task.annotations, number, row, "options")
        name = _new_id(task.annotations, number, row, "id", questions)
        questions[name] = Question(choices=choices, answers=(letter,), image=name)
    return _score(task, questions, bare_letter)


def score_scienceqa(task: ScoringTask) -> ScoringResult:
    """Score ScienceQA's questions with an image (split test unless given). Raises InputError if ids do not match."""
    content = read_json(task.annotations)
    if not isinstance(content, dict):
        raise InputError(f"{task.annotations}: found {shorten(content)}, expected ScienceQA's problems.json")
    rows = [{**row, "id": name} for name, row in content.items() if isinstance(row, dict)]
    questions: dict[str, Question] = {}
    for number, row in _rows(task.annotations, rows, ("choices", "answer", "image", "split")):
        if row["image"] and row["split"] == "test":
            choices, letter = _choices(task.annotations, number, row, "choices")
            questions[row["id"]] = Question(
                choices=choices, answers=(letter,), image=row["id"], groups={"subject": str(row.get("subject"))}
            )
    return _score(task, questions, llava_letter if task.protocol == "llava" else letter_and_stop)


def score_mmbench(task: ScoringTask) -> ScoringResult:
    """Score MMBench's dev set: a question is right if all rotations of its choices are (CircularEval).

    Raises InputError if ids do not match, or a question has not as many rotations as choices.
    """
    text = read_bytes(task.annotations).decode("utf-8-sig")
    table = list(csv.DictReader(text.splitlines(keepends=True), delimiter="\t"))
    questions: dict[str, Question] = {}
    for number, row in _rows(task.annotations, table, ("index", "A", "B", "answer", "category")):
        choices = [row[letter] for letter in "ABCD" if row.get(letter)]
        try:
            index = int(float(row["index"]))
        except (TypeError, ValueError, OverflowError):
            raise _unusable(task.annotations, number, "index", row["index"], "a whole number") from None
        questions[_new_id(task.annotations, number, {"index": index}, "index", questions)] = Question(
            choices=tuple(choices),
            answers=(row["answer"],),
            image=index % 1_000_000,
            groups={"category": row["category"], "ability": row.get("l2-category") or ""},
        )
    rotations: dict[Hashable, int] = {}
    for question in questions.values():
        rotations[question.image] = rotations.get(question.image, 0) + 1
    for name, question in questions.items():
        if rotations[question.image] != len(question.choices):
            raise InputError(
                f"{task.annotations}: question {name} has {len(question.choices)} choices and "
                f"{rotations[question.image]} rotations, expected as many; give the file with all of them"
            )
    result = _score(task, questions, only_letter)
    return _circular(task, result, questions)


def _circular(task: ScoringTask, result: ScoringResult, questions: Mapping[str, Question]) -> ScoringResult:
    """Return the score of whole questions in place of that of their rotations, which stays as `vanilla`."""
    right: dict[Hashable, list[float]] = {}
    of = {name: questions[name] for name in result.ids}
    for name, value in zip(result.ids, result.items["accuracy"], strict=True):
        right.setdefault(of[name].image, []).append(value)
    shown = {question.image: question for question in of.values()}
    whole = [name for name in right if len(right[name]) == len(shown[name].choices)]
    all_right = [min(right[name]) for name in whole]
    metrics = {}
    if whole:
        metrics["accuracy"] = percent(all_right, whole, task.seed, "accuracy")
    else:
        result.skipped["accuracy"] = "no question has a result for each rotation of its choices"
    for group in ("category", "ability"):
        values = [shown[name].groups[group] for name in whole]
        metrics |= percent_by(f"accuracy.{group}", all_right, whole, values, task.seed) if any(values) else {}
    metrics["vanilla"] = result.metrics["accuracy"]
    result.ids, result.images, result.items, result.metrics = whole, (), {"accuracy": all_right}, metrics
    result.expected = len({question.image for question in questions.values()})
    return result


def _check_answers(file: Path, questions: Mapping[str, Question]) -> None:
    """Raise InputError for a question without its answer, which every reply would get wrong."""
    for name, question in questions.items():
        letters = tuple(LETTERS[: len(question.choices)])
        unknown = [one for one in question.answers if (one not in letters if letters else one in HIDDEN_ANSWERS)]
        if unknown or not question.answers:
            found = shorten(unknown[0] if unknown else [])
            wanted = f"{letters[0]} to {letters[-1]}" if letters else "a text"
            raise InputError(
                f"{file}: the answer of question {name} is {found}, expected {wanted}; the answers of test "
                "splits are not published: give a split that has them (validation, dev)"
            )


def _score(task: ScoringTask, questions: Mapping[str, Question], read: ReadLetter) -> ScoringResult:
    _check_answers(task.annotations, questions)
    replies, scored_choices, notes = _read_replies(task.results, questions)
    ids, more = align(task, replies, questions, what="question")
    right, unread, guessed = [], 0, 0.0
    for name in ids:
        question = questions[name]
        if not question.choices:
            right.append(float(answers_open(replies[name], question.answers)))
            continue
        letter = (exact if name in scored_choices else read)(replies[name], question.choices)
        right.append(float(letter in question.answers))
        unread += letter is None
        guessed += 0.0 if letter else 1 / len(question.choices)
    images = [questions[name].image for name in ids]
    metrics = {"accuracy": percent(right, images, task.seed, "accuracy")}
    for group in sorted({group for question in questions.values() for group in question.groups}):
        values = [questions[name].groups[group] for name in ids]
        metrics |= percent_by(f"accuracy.{group}", right, images, values, task.seed)
    notes |= more | {
        "replies_without_a_letter": f"{unread} of {len(ids)}, counted as wrong" if unread else 0,
        "by_likelihood": f"{len(scored_choices.intersection(ids))} of {len(ids)}",
    }
    if unread:
        notes["guessing"] = f"random guesses would add {100 * guessed / len(ids):.2f} on average; none are made"
    return ScoringResult(ids=ids, expected=len(questions), unit="per cent", images=images, items={"accuracy": right},
                         metrics=metrics, notes=notes)  # fmt: skip


def _read_replies(file: Path, questions: Mapping[str, Question]) -> tuple[dict[str, str], set[str], dict[str, Any]]:
    """Return {question id: reply}, the ids whose reply is the likeliest choice, and notes.

    Each row has a reply or log-likelihoods. Raises InputError naming the question that has both, or not as many
    log-likelihoods as choices.
    """
    said: list[tuple[int, Any]] = []
    scored: list[tuple[int, Any]] = []
    for number, row in enumerate(read_rows(file), 1):
        (scored if isinstance(row, dict) and "log_likelihoods" in row else said).append((number, row))
    replies, notes = read_results(file, ids=IDS, values=("prediction", "answer", "text"), as_id=str, rows=said)
    likelihoods, more = read_results(file, ids=IDS, values=("log_likelihoods",), kind=list, as_id=str, rows=scored)
    if both := likelihoods.keys() & replies.keys():
        raise InputError(f"{file}: question {min(both)} has a reply and log_likelihoods; keep one")
    for name, values in likelihoods.items():
        known = questions.get(name)
        if known is not None and len(values) != len(known.choices):
            wanted = f"{len(known.choices)}, one for each choice" if known.choices else "a reply: it has no choices"
            raise InputError(f"{file}: question {name} has {len(values)} log_likelihoods, expected {wanted}")
        # `align` refuses questions that are not known, whatever their reply.
        replies[name] = LETTERS[max(range(len(values)), key=values.__getitem__)] if known else ""
    merged = sum(one.get("merged_equal_rows", 0) for one in (notes, more))
    return replies, set(likelihoods), {"merged_equal_rows": merged} if merged else {}


def _choices(file: Path, number: int, row: Mapping[str, Any], column: str) -> tuple[tuple[str, ...], str]:
    """Return a row's choices and the letter of the right one, whose place from 0 is its `answer`.

    Raises InputError naming the row.
    """
    choices, answer, of = row[column], row["answer"], f"of question {row['id']}"
    if not isinstance(choices, list) or not 0 < len(choices) <= len(LETTERS):
        raise _unusable(file, number, f"{column} {of}", choices, "a list of choices")
    if not str(answer).isdecimal() or int(answer) >= len(choices):
        raise _unusable(file, number, f"answer {of}", answer, f"0 to {len(choices) - 1}, the right one of {column}")
    return tuple(map(str, choices)), LETTERS[int(answer)]


def _id(file: Path, number: int, row: Mapping[str, Any], column: str) -> str:
    """Return a number or a text as the text that results are matched by. Raises InputError naming the row."""
    if not isinstance(row[column], int | str):
        raise _unusable(file, number, column, row[column], "a number or text")
    return str(row[column])


def _new_id(file: Path, number: int, row: Mapping[str, Any], column: str, known: Mapping[str, Question]) -> str:
    """Return a question's id, which no row before had. Raises InputError naming the row."""
    name = _id(file, number, row, column)
    if name in known:
        raise InputError(f"{file}: row {number}: {column} {name} occurs twice, expected each once")
    return name


def _listed(file: Path, number: int, column: str, value: Any) -> Sequence[Any]:
    """Return a list, or text that Python reads as one, as MMMU's tables have it. Raises InputError naming the row."""
    try:
        found = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list | tuple):
        raise _unusable(file, number, column, value, "a list of texts, say ['a', 'b']")
    return found


def _unusable(file: Path, number: int, what: str, value: Any, expected: str) -> InputError:
    return InputError(f"{file}: row {number}: {what} is {shorten(value)}, expected {expected}")


def _rows(file: Path, rows: Any, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield rows that have all columns, with their numbers from 1. Raises InputError naming the first that has not."""
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{file}: no questions, expected rows with {', '.join(columns)}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not set(columns) <= row.keys():
            raise InputError(f"{file}: row {number} is {shorten(row)}, expected {', '.join(columns)}")
        yield number, row

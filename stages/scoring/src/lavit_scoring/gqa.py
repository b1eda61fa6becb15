"""GQA result files: list of {questionId, prediction}, against one answer a question."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lavit_scoring.bootstrap import percent, percent_by
from lavit_scoring.errors import InputError
from lavit_scoring.estimate import Estimate, exact
from lavit_scoring.files import read_json
from lavit_scoring.metrics.answer_normalization import normalize_lavit
from lavit_scoring.metrics.lemmas import lemmatizer
from lavit_scoring.results import align, read_results
from lavit_scoring.task import Scored, ScoringTask

_UNCOUNTED_STEPS = ("exist", "query: name", "choose name")
"""Steps that ask at the end and add no reasoning."""

_ANY_KIND = ("color", "material", "shape")
"""What may answer "what do both have in common?"."""


def read_gqa(file: Path) -> dict[str, dict[str, Any]]:
    """Return {question id: row} of a GQA question file. Raises InputError naming the question that is not one."""
    rows = read_json(file)
    if not isinstance(rows, dict) or not rows:
        raise InputError(f"{file}: expected an object of questions by id, as testdev_balanced_questions.json is")
    for name, row in rows.items():
        if not isinstance(row, dict) or not isinstance(row.get("question"), str) or "imageId" not in row:
            raise InputError(f"{file}: question {name!r} has no question and imageId")
    return rows


def score_gqa(task: ScoringTask) -> Scored:
    """Score predictions by GQA's rules (exact text) or by LaVIT's. Raises InputError when ids do not fit."""
    questions = read_gqa(task.annotations)
    choices = None if task.choices is None else read_json(task.choices)
    balanced = {name: row for name, row in questions.items() if row.get("isBalanced", True)}
    if unanswered := [name for name, row in balanced.items() if not isinstance(row.get("answer"), str)]:
        raise InputError(f"{task.annotations}: question {unanswered[0]} has no answer; this split can't be scored here")
    said, notes = read_results(task.results, ids=("questionId", "question_id"), values=("prediction", "answer"),
                               as_id=str)  # fmt: skip
    # The official script looks predictions up, so predictions for other splits' questions do no harm.
    ids, more = align(said, balanced, file=task.results, against=task.annotations, what="question",
                      partial=task.partial, ignore_extra=True)  # fmt: skip
    rows = [balanced[name] for name in ids]
    compared, gold = dict(said), {name: row.get("answer") for name, row in questions.items()}
    if task.protocol == "lavit":
        lemmas = lemmatizer(task.lemmatizer or "given")
        compared = {name: normalize_lavit(lemmas(text)) for name, text in said.items()}
        gold = {name: lemmas(text) for name, text in gold.items() if isinstance(text, str)}
    scores = [float(compared[name] == gold[name]) for name in ids]
    images = [row["imageId"] for row in rows]
    metrics = {"accuracy": percent(scores, images, task.seed, "accuracy")}
    metrics |= _by_type(scores, images, rows, task.seed)
    skipped = {"grounding": "needs a model's attention maps, which a result file does not hold"}
    if task.protocol == "official":
        metrics |= _distribution(rows, gold, [compared[name] for name in ids], ids, skipped)
        metrics |= _choices(choices, ids, compared, rows, images, skipped, task)
        metrics |= _consistency(questions, ids, compared, gold, scores, images, skipped, task.seed)
    notes |= more | {"empty_answers": sum(not said[name].strip() for name in ids)}
    return Scored(ids=ids, expected=len(balanced), unit="per cent (distribution: lower is better)",
                  images=images, items={"accuracy": scores}, metrics=metrics, skipped=skipped, notes=notes)  # fmt: skip


def _by_type(
    scores: Sequence[float], images: Sequence[str], rows: Sequence[dict[str, Any]], seed: int
) -> dict[str, Estimate]:
    metrics: dict[str, Estimate] = {}
    if all(isinstance(row.get("types"), dict) for row in rows):
        structural = [row["types"].get("structural") for row in rows]
        openness = ["open" if kind == "query" else "binary" for kind in structural]
        metrics |= percent_by("accuracy", scores, images, openness, seed)
        metrics |= percent_by("accuracy.structural", scores, images, structural, seed)
        semantic = [row["types"].get("semantic") for row in rows]
        metrics |= percent_by("accuracy.semantic", scores, images, semantic, seed)
    if all(isinstance(row.get("semantic"), list) for row in rows):
        metrics |= percent_by("accuracy.steps", scores, images, [f"{num_steps(row):02d}" for row in rows], seed)
    lengths = [f"{len(row['question'].split()):02d}" for row in rows]
    return metrics | percent_by("accuracy.words", scores, images, lengths, seed)


def num_steps(row: dict[str, Any]) -> int:
    """Return how many steps of reasoning a question takes, its final asking left out."""
    steps = [f"{step['operation']}: {step['argument']}" for step in row["semantic"]]
    return sum(not any(ending in step for ending in _UNCOUNTED_STEPS) for step in steps)


def chi_square(gold: dict[str, Counter[str]], said: dict[str, Counter[str]]) -> float:
    """Return the mean chi-square statistic of predicted against true answers, weighted by the group's size, / 100."""
    total = 0.0
    for group, expected in gold.items():
        statistic = sum((said[group][answer] - count) ** 2 / count for answer, count in expected.items())
        total += statistic * expected.total()
    return total / sum(expected.total() for expected in gold.values()) / 100


def _distribution(
    rows: Sequence[dict[str, Any]],
    gold: dict[str, Any],
    said: Sequence[str],
    ids: Sequence[str],
    skipped: dict[str, str],
) -> dict[str, Estimate]:
    true: dict[str, Counter[str]] = defaultdict(Counter)
    predicted: dict[str, Counter[str]] = defaultdict(Counter)
    for name, row, text in zip(ids, rows, said, strict=True):
        group = (row.get("groups") or {}).get("global")
        if group is not None:
            true[group][gold[name]] += 1
            predicted[group][text] += 1
    if not true:
        skipped["distribution"] = "the questions have no groups"
        return {}
    count = sum(counts.total() for counts in true.values())
    return {"distribution": exact(round(chi_square(true, predicted), 2), count)}


def _choices(
    choices: Any, ids: Sequence[str], said: dict[str, str], rows: Sequence[dict[str, Any]], images: Sequence[str],
    skipped: dict[str, str], task: ScoringTask,
) -> dict[str, Estimate]:  # fmt: skip
    if choices is None:
        skipped |= dict.fromkeys(("validity", "plausibility"), "needs GQA's choices file; give it with --choices")
        return {}
    if not isinstance(choices, dict) or any(name not in choices for name in ids):
        lacking = next((name for name in ids if not isinstance(choices, dict) or name not in choices), "")
        raise InputError(f"{task.choices}: question {lacking} has no choices; expected those of {task.annotations}")
    metrics = {}
    for kind, name in (("valid", "validity"), ("plausible", "plausibility")):
        inside = [
            float(said[one] in (_ANY_KIND if "Common" in (row.get("types") or {}).get("detailed", "") else
                                choices[one][kind]))
            for one, row in zip(ids, rows, strict=True)
        ]  # fmt: skip
        metrics[name] = percent(inside, images, task.seed, name)
    return metrics


def _consistency(
    questions: dict[str, dict[str, Any]], ids: Sequence[str], said: dict[str, str], gold: dict[str, Any],
    scores: Sequence[float], images: Sequence[str], skipped: dict[str, str], seed: int,
) -> dict[str, Estimate]:  # fmt: skip
    """Return how often a model that is right is right on what follows from it."""
    means: list[float] = []
    where: list[str] = []
    for name, score, image in zip(ids, scores, images, strict=True):
        follows = [one for one in questions[name].get("entailed") or () if one != name]
        if not score or not follows:
            continue
        if any(one not in questions or one not in said for one in follows):
            skipped["consistency"] = "needs the *_all_questions.json file and predictions for all of its questions"
            return {}
        means.append(sum(said[one] == gold[one] for one in follows) / len(follows))
        where.append(image)
    if not means:
        skipped["consistency"] = "no question that was answered right entails another"
        return {}
    return {"consistency": percent(means, where, seed, "consistency")}

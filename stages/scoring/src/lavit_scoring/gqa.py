"""GQA result files: list of {questionId, prediction}, against one answer a question."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavit_scoring.bootstrap import percent, percent_by
from lavit_scoring.errors import InputError, shorten
from lavit_scoring.estimate import Estimate, exact
from lavit_scoring.files import read_json
from lavit_scoring.metrics.answer_normalization import normalize_lavit
from lavit_scoring.metrics.lemmas import lemmatizer
from lavit_scoring.results import align, read_results
from lavit_scoring.task import ScoringResult, ScoringTask

_UNCOUNTED_STEPS = ("exist", "query: name", "choose name")
"""Steps that ask at the end and add no reasoning."""

_ANY_KIND = ("color", "material", "shape")
"""What may answer "what do both have in common?"."""


@dataclass(frozen=True)
class _Answered:
    """Balanced questions that have a prediction, and what they are compared with."""

    ids: list[str]
    rows: list[dict[str, Any]]
    """The questions, in the order of `ids`."""
    predictions: Mapping[str, str]
    """Question id -> prediction, of other questions too, as it is compared."""
    gold: Mapping[str, Any]
    """Question id -> true answer, of every question of the file, as it is compared."""
    seed: int

    @property
    def images(self) -> list[Hashable]:
        """The image of each question."""
        return [row["imageId"] for row in self.rows]

    @property
    def scores(self) -> list[float]:
        """1 for each question that is answered right, else 0."""
        return [float(self.predictions[name] == self.gold[name]) for name in self.ids]


def _has_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(text is None or isinstance(text, str) for text in value.values())


def _has_steps(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict) and {"operation", "argument"} <= row.keys() for row in value
    )


COLUMNS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "imageId": ("a number or text", lambda value: isinstance(value, int | str)),
    "types": ("an object of texts", _has_texts),
    "groups": ("an object of texts", _has_texts),
    "semantic": ("a list of {operation, argument}", _has_steps),
    "entailed": ("a list of ids", lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value)),
}
"""What a question's columns may be, in words and as a test; each may be null."""


def read_gqa(file: Path) -> dict[str, dict[str, Any]]:
    """Return {question id: row} of a GQA question file. Raises InputError naming the question that is not one."""
    rows = read_json(file)
    if not isinstance(rows, dict) or not rows:
        raise InputError(f"{file}: expected an object of questions by id, as testdev_balanced_questions.json is")
    for name, row in rows.items():
        if not isinstance(row, dict) or not isinstance(row.get("question"), str) or "imageId" not in row:
            raise InputError(f"{file}: question {name!r} has no question and imageId")
        for column, (wanted, is_usable) in COLUMNS.items():
            if row.get(column) is not None and not is_usable(row[column]):
                raise InputError(f"{file}: {column} of question {name!r} is {shorten(row[column])}, expected {wanted}")
    return rows


def score_gqa(task: ScoringTask) -> ScoringResult:
    """Score predictions by GQA's rules (exact text) or by LaVIT's. Raises InputError if ids do not match."""
    questions = read_gqa(task.annotations)
    balanced = {name: row for name, row in questions.items() if row.get("isBalanced", True)}
    if unanswered := [name for name, row in balanced.items() if not isinstance(row.get("answer"), str)]:
        raise InputError(f"{task.annotations}: question {unanswered[0]} has no answer; this split can't be scored here")
    raw, notes = read_results(task.results, ids=("questionId", "question_id"), values=("prediction", "answer"),
                              as_id=str)  # fmt: skip
    # The official script looks predictions up, so predictions for other splits' questions do no harm.
    ids, more = align(task, raw, balanced, what="question", ignore_extra=True)
    predictions, gold = raw, {name: row.get("answer") for name, row in questions.items()}
    if task.protocol == "lavit":
        lemmas = lemmatizer(task.lemmatizer or "given")
        predictions = {name: normalize_lavit(lemmas(text)) for name, text in raw.items()}
        gold = {name: lemmas(text) for name, text in gold.items() if isinstance(text, str)}
    answered = _Answered(ids, [balanced[name] for name in ids], predictions, gold, task.seed)
    scores, images = answered.scores, answered.images
    metrics = {"accuracy": percent(scores, images, task.seed, "accuracy")} | _by_type(answered)
    skipped = {"grounding": "needs a model's attention maps, which a result file does not contain"}
    if task.protocol == "official":
        metrics |= _distribution(answered, skipped)
        metrics |= _choices(answered, task, skipped)
        metrics |= _consistency(answered, questions, skipped)
    notes |= more | {"empty_answers": sum(not raw[name].strip() for name in ids)}
    return ScoringResult(ids=ids, expected=len(balanced), unit="per cent (distribution: lower is better)",
                         images=images, items={"accuracy": scores}, metrics=metrics, skipped=skipped,
                         notes=notes)  # fmt: skip


def _by_type(answered: _Answered) -> dict[str, Estimate]:
    rows, groups = answered.rows, dict[str, list[Any]]()
    if all(isinstance(row.get("types"), dict) for row in rows):
        structural = [row["types"].get("structural") for row in rows]
        groups["accuracy"] = ["open" if kind == "query" else "binary" for kind in structural]
        groups["accuracy.structural"] = structural
        groups["accuracy.semantic"] = [row["types"].get("semantic") for row in rows]
    if all(isinstance(row.get("semantic"), list) for row in rows):
        groups["accuracy.steps"] = [f"{num_steps(row):02d}" for row in rows]
    groups["accuracy.words"] = [f"{len(row['question'].split()):02d}" for row in rows]
    scores, images, metrics = answered.scores, answered.images, dict[str, Estimate]()
    for name, group in groups.items():
        metrics |= percent_by(name, scores, images, group, answered.seed)
    return metrics


def num_steps(row: dict[str, Any]) -> int:
    """Return how many steps of reasoning a question takes, without its final asking."""
    steps = [f"{step['operation']}: {step['argument']}" for step in row["semantic"]]
    return sum(not any(ending in step for ending in _UNCOUNTED_STEPS) for step in steps)


def chi_square(gold: Mapping[str, Counter[str]], predicted: Mapping[str, Counter[str]]) -> float:
    """Return the mean chi-square statistic of predicted against true answers, weighted by the group's size, / 100."""
    total = 0.0
    for group, expected in gold.items():
        statistic = sum((predicted[group][answer] - count) ** 2 / count for answer, count in expected.items())
        total += statistic * expected.total()
    return total / sum(expected.total() for expected in gold.values()) / 100


def _distribution(answered: _Answered, skipped: dict[str, str]) -> dict[str, Estimate]:
    gold: dict[str, Counter[str]] = defaultdict(Counter)
    predicted: dict[str, Counter[str]] = defaultdict(Counter)
    for name, row in zip(answered.ids, answered.rows, strict=True):
        group = (row.get("groups") or {}).get("global")
        if group is not None:
            gold[group][answered.gold[name]] += 1
            predicted[group][answered.predictions[name]] += 1
    if not gold:
        skipped["distribution"] = "the questions have no groups"
        return {}
    n = sum(counts.total() for counts in gold.values())
    return {"distribution": exact(round(chi_square(gold, predicted), 2), n)}


def _choices(answered: _Answered, task: ScoringTask, skipped: dict[str, str]) -> dict[str, Estimate]:
    """Return how often a prediction is an answer of the right kind (validity), and one that occurs (plausibility)."""
    if task.choices is None:
        skipped |= dict.fromkeys(("validity", "plausibility"), "needs GQA's choices file; give it with --choices")
        return {}
    choices = read_json(task.choices)
    if lacking := [name for name in answered.ids if not isinstance(choices, dict) or name not in choices]:
        raise InputError(f"{task.choices}: question {lacking[0]} has no choices; expected those of {task.annotations}")
    metrics = {}
    for kind, metric in (("valid", "validity"), ("plausible", "plausibility")):
        inside = [
            float(answered.predictions[name] in (_ANY_KIND if _is_common(row) else choices[name][kind]))
            for name, row in zip(answered.ids, answered.rows, strict=True)
        ]
        metrics[metric] = percent(inside, answered.images, answered.seed, metric)
    return metrics


def _is_common(row: dict[str, Any]) -> bool:
    return "Common" in ((row.get("types") or {}).get("detailed") or "")


def _consistency(
    answered: _Answered, questions: Mapping[str, dict[str, Any]], skipped: dict[str, str]
) -> dict[str, Estimate]:
    """Return how often a model that is right is also right on the questions that follow from the answer."""
    predictions, gold = answered.predictions, answered.gold
    means: list[float] = []
    images: list[Hashable] = []
    for name, score, image in zip(answered.ids, answered.scores, answered.images, strict=True):
        entailed: Sequence[str] = [other for other in questions[name].get("entailed") or () if other != name]
        if not score or not entailed:
            continue
        if any(other not in questions or other not in predictions for other in entailed):
            skipped["consistency"] = "needs the *_all_questions.json file and predictions for all of its questions"
            return {}
        means.append(sum(predictions[other] == gold[other] for other in entailed) / len(entailed))
        images.append(image)
    if not means:
        skipped["consistency"] = "no question that was answered right entails another"
        return {}
    return {"consistency": percent(means, images, answered.seed, "consistency")}

"""VizWiz result files: {image, answer} for questions, {image, answerable} for answerability; the key is the image."""

from pathlib import Path
from typing import Any

import numpy as np

from lavit_scoring.bootstrap import derive_seed, ends, percent, percent_by
from lavit_scoring.captions import caption_metrics
from lavit_scoring.errors import InputError
from lavit_scoring.estimate import Estimate
from lavit_scoring.files import read_json
from lavit_scoring.metrics.average_precision import average_precision, f1_score
from lavit_scoring.metrics.lemmas import Lemmatize, as_given, lemmatizer
from lavit_scoring.metrics.vqa_accuracy import lavit_accuracy, vizwiz_accuracy
from lavit_scoring.results import align, read_results
from lavit_scoring.task import ScoringResult, ScoringTask
from lavit_scoring.vqa import answer_texts

RESAMPLES = 200
"""Resamples of metrics that are not means: each is computed from scratch."""


def read_vizwiz(file: Path) -> dict[str, dict[str, Any]]:
    """Return {image name: row} of a VizWiz annotation file. Raises InputError naming the row that is not one."""
    rows = read_json(file)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{file}: expected a list of {{image, question, answers, ...}}, as VizWiz's val.json is")
    truths: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("image"), str):
            raise InputError(f"{file}: row {number} has no `image`, expected the image's file name")
        if row["image"] in truths:
            raise InputError(f"{file}: {row['image']} occurs twice")
        truths[row["image"]] = row
    return truths


def score_vizwiz(task: ScoringTask) -> ScoringResult:
    """Score answers by the VizWiz server's rules or by LaVIT's. Raises InputError if images do not match."""
    truths = read_vizwiz(task.annotations)
    texts: dict[str, list[str]] = {}
    for number, (name, row) in enumerate(truths.items(), 1):
        if not row.get("answers"):
            raise InputError(f"{task.annotations}: {name} has no human answers; the test split can't be scored here")
        texts[name] = answer_texts(task.annotations, number, row["answers"])
    answers, notes = read_results(task.results, ids=("image",), values=("answer",))
    ids, more = align(task, answers, texts, what="image")
    rules = vizwiz_accuracy
    lemmas: Lemmatize = as_given
    if task.protocol == "lavit":
        rules, lemmas = lavit_accuracy, lemmatizer(task.lemmatizer or "given")
    scores = [rules(lemmas(answers[name]), [lemmas(text) for text in texts[name]]) for name in ids]
    kinds = [truths[name].get("answer_type") or "" for name in ids]
    metrics = {"accuracy": percent(scores, ids, task.seed, "accuracy")}
    metrics |= percent_by("accuracy.answer_type", scores, ids, kinds, task.seed)
    skipped: dict[str, str] = {}
    if task.protocol == "official":
        # The server also reads answers as captions; the answers of the humans are the references.
        captions = caption_metrics([answers[name] for name in ids], [texts[name] for name in ids], seed=task.seed)
        metrics |= {f"as_caption.{name}": metric for name, metric in captions.metrics.items()}
        skipped |= {f"as_caption.{name}": reason for name, reason in captions.skipped.items()}
        skipped["as_caption.meteor"] = "not computed for answers"
    notes |= more | {"empty_answers": sum(not answers[name].strip() for name in ids)}
    return ScoringResult(ids=ids, expected=len(texts), unit="per cent; as_caption.*: 1", items={"accuracy": scores},
                         metrics=metrics, skipped=skipped, notes=notes)  # fmt: skip


def score_answerability(task: ScoringTask) -> ScoringResult:
    """Score how sure a model is that a question can be answered: average precision and F1 of unanswerable ones."""
    truths = read_vizwiz(task.annotations)
    for name, row in truths.items():
        if row.get("answerable") not in (0, 1):
            raise InputError(f"{task.annotations}: {name} has no `answerable` of 0 or 1; the test split has none")
    sure, notes = read_results(task.results, ids=("image",), values=("answerable",), kind=float)
    ids, more = align(task, sure, truths, what="image")
    positives = np.array([1 - truths[name]["answerable"] for name in ids], dtype=bool)
    scores = 1.0 - np.array([sure[name] for name in ids], dtype=np.float64)
    if not positives.any():
        raise InputError(f"{task.annotations}: every question can be answered, so there is no average precision")
    rng = np.random.default_rng(derive_seed(task.seed, "bootstrap", "answerability"))
    resamples = [rng.integers(0, len(ids), len(ids)) for _ in range(RESAMPLES)]
    precision = [average_precision(positives[r], scores[r]) for r in resamples if positives[r].any()]
    f1 = [f1_score(positives[r], scores[r] > 0.5) for r in resamples]
    metrics = {
        "average_precision": _percent(average_precision(positives, scores), precision, len(ids)),
        "f1": _percent(f1_score(positives, scores > 0.5), f1, len(ids)),
    }
    return ScoringResult(ids=ids, expected=len(truths), unit="per cent", metrics=metrics, notes=notes | more)


def _percent(value: float, resampled: list[float], n: int) -> Estimate:
    low, high = ends(np.array(resampled))
    return Estimate(round(100 * value, 2), round(100 * low, 2), round(100 * high, 2), n)

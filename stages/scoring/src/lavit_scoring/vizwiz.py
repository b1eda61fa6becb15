"""VizWiz result files: {image, answer} for questions, {image, answerable} for answerability; the key is the picture."""

from pathlib import Path
from typing import Any

import numpy as np

from lavit_scoring.bootstrap import derive_seed, ends, percent, percent_by
from lavit_scoring.captions import caption_metrics
from lavit_scoring.errors import InputError
from lavit_scoring.estimate import Estimate
from lavit_scoring.files import read_json
from lavit_scoring.metrics.average_precision import average_precision, f1_score
from lavit_scoring.metrics.lemmas import lemmatizer
from lavit_scoring.metrics.vqa_accuracy import lavit_accuracy, vizwiz_accuracy
from lavit_scoring.results import align, read_results
from lavit_scoring.task import Scored, ScoringTask

RESAMPLES = 200
"""Resamples of figures that are no means: each is computed from scratch."""


def read_vizwiz(file: Path) -> dict[str, dict[str, Any]]:
    """Return {image name: row} of a VizWiz annotation file. Raises InputError naming the row that is not one."""
    rows = read_json(file)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{file}: expected a list of {{image, question, answers, ...}}, as VizWiz's val.json is")
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("image"), str):
            raise InputError(f"{file}: row {number} has no `image`, expected the picture's file name")
        if row["image"] in found:
            raise InputError(f"{file}: {row['image']} stands there twice")
        found[row["image"]] = row
    return found


def score_vizwiz(task: ScoringTask) -> Scored:
    """Score answers by the VizWiz server's rules or by LaVIT's. Raises InputError when pictures do not fit."""
    truths = read_vizwiz(task.annotations)
    texts = {name: [answer.get("answer") for answer in row.get("answers") or ()] for name, row in truths.items()}
    for name, humans in texts.items():
        if not humans or not all(isinstance(human, str) for human in humans):
            raise InputError(f"{task.annotations}: {name} has no human answers; the test split can't be scored here")
    answers, notes = read_results(task.results, ids=("image",), values=("answer",))
    ids, more = align(answers, texts, file=task.results, against=task.annotations, what="picture", partial=task.partial)
    if task.protocol == "lavit":
        lemmas = lemmatizer(task.lemmatizer or "given")
        scores = [lavit_accuracy(lemmas(answers[name]), [lemmas(text) for text in texts[name]]) for name in ids]
    else:
        scores = [vizwiz_accuracy(answers[name], texts[name]) for name in ids]
    kinds = [truths[name].get("answer_type") or "" for name in ids]
    metrics = {"accuracy": percent(scores, ids, task.seed, "accuracy")}
    metrics |= percent_by("accuracy.answer_type", scores, ids, kinds, task.seed)
    skipped: dict[str, str] = {}
    if task.protocol == "official":
        # The server also reads answers as captions; the answers of the humans are the references.
        read = caption_metrics([answers[name] for name in ids], [texts[name] for name in ids], seed=task.seed)
        metrics |= {f"as_caption.{name}": metric for name, metric in read.metrics.items()}
        skipped |= {f"as_caption.{name}": reason for name, reason in read.skipped.items()}
        skipped["as_caption.meteor"] = "not computed for answers"
    notes |= more | {"empty_answers": sum(not answers[name].strip() for name in ids)}
    return Scored(ids=ids, expected=len(texts), unit="per cent; as_caption.*: 1", items={"accuracy": scores},
                  metrics=metrics, skipped=skipped, notes=notes)  # fmt: skip


def score_answerability(task: ScoringTask) -> Scored:
    """Score how sure a model is that a question can be answered: average precision and F1 of unanswerable ones."""
    truths = read_vizwiz(task.annotations)
    for name, row in truths.items():
        if row.get("answerable") not in (0, 1):
            raise InputError(f"{task.annotations}: {name} has no `answerable` of 0 or 1; the test split has none")
    said, notes = read_results(task.results, ids=("image",), values=("answerable",), kind=float)
    ids, more = align(said, truths, file=task.results, against=task.annotations, what="picture", partial=task.partial)
    positives = np.array([1 - truths[name]["answerable"] for name in ids], dtype=bool)
    scores = 1.0 - np.array([said[name] for name in ids], dtype=np.float64)
    if not positives.any():
        raise InputError(f"{task.annotations}: every question can be answered, so there is no average precision")
    rng = np.random.default_rng(derive_seed(task.seed, "bootstrap", "answerability"))
    drawn = [rng.integers(0, len(ids), len(ids)) for _ in range(RESAMPLES)]
    precision = [average_precision(positives[d], scores[d]) for d in drawn if positives[d].any()]
    f1 = [f1_score(positives[d], scores[d] > 0.5) for d in drawn]
    return Scored(
        ids=ids,
        expected=len(truths),
        unit="per cent",
        metrics={
            "average_precision": _percent(average_precision(positives, scores), precision, len(ids)),
            "f1": _percent(f1_score(positives, scores > 0.5), f1, len(ids)),
        },
        notes=notes | more,
    )


def _percent(value: float, resampled: list[float], count: int) -> Estimate:
    low, high = ends(np.array(resampled))
    return Estimate(round(100 * value, 2), round(100 * low, 2), round(100 * high, 2), count)

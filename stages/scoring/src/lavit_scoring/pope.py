"""POPE result files: {question_id, answer}, against yes or no for each question about an object in an image."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lavit_scoring.bootstrap import ends, per_cluster, percent, resampled_sums
from lavit_scoring.errors import InputError, shorten
from lavit_scoring.estimate import Estimate
from lavit_scoring.files import read_bytes, read_json, read_json_lines
from lavit_scoring.results import align, read_results
from lavit_scoring.task import ScoringResult, ScoringTask
from lavit_scoring.yes_no import has_yes_or_no, pope_harness_reply, pope_reply

HIT, FALSE_ALARM, MISS, REJECTION, OTHER_YES, OTHER_NO = range(6)
"""Outcomes: yes to yes, yes to no, no to yes, no to no, and neither word to yes and to no."""

NO_YES = "no reply is yes, so the official script divides by zero"


def read_pope(file: Path) -> dict[str, dict[str, Any]]:
    """Return {question id: row} of a POPE question file: one object a line, or a JSON array.

    Raises InputError naming the row that is not one.
    """
    is_array = read_bytes(file).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"[")
    rows = read_json(file) if is_array else read_json_lines(file)
    questions: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or "question_id" not in row or "image" not in row:
            raise InputError(f"{file}: row {number} is {shorten(row)}, expected question_id, image, text and label")
        name, label = str(row["question_id"]), row.get("label")
        if label not in ("yes", "no"):
            raise InputError(f"{file}: label of question {name} is {shorten(label)}, expected yes or no")
        if not isinstance(row["image"], int | str):
            raise InputError(f"{file}: image of question {name} is {shorten(row['image'])}, expected a file name")
        if name in questions:
            raise InputError(f"{file}: question_id {name} occurs twice; score POPE's three files one by one")
        questions[name] = row
    if not questions:
        raise InputError(f"{file}: no questions")
    return questions


def score_pope(task: ScoringTask) -> ScoringResult:
    """Score replies by POPE's script, or by lmms-eval's task. Raises InputError if ids do not match."""
    questions = read_pope(task.annotations)
    said, notes = read_results(task.results, ids=("question_id",), values=("answer", "text", "prediction"), as_id=str)
    ids, more = align(task, said, questions, what="question")
    harness = task.protocol == "lmms-eval"
    read = pope_harness_reply if harness else pope_reply
    outcomes = [_outcome(read(said[name]), questions[name]["label"]) for name in ids]
    images: list[Hashable] = [questions[name]["image"] for name in ids]
    right = [float(outcome in (HIT, REJECTION)) for outcome in outcomes]
    metrics, skipped = {"accuracy": percent(right, images, task.seed, "accuracy")}, dict[str, str]()
    counts = _by_image(outcomes, images)
    for name, values in _ratios(counts, task.seed, harness=harness).items():
        if np.isnan(values[0]):
            skipped[name] = NO_YES if name != "recall" else "no question has the answer yes"
        else:
            value, low, high = (round(100 * float(number), 2) for number in (values[0], *ends(values[1:])))
            metrics[name] = Estimate(value, low, high, len(ids))
    unclear = sum(not has_yes_or_no(said[name]) for name in ids)
    taken = "wrong, and left out of recall where the answer is yes" if harness else "counted as yes"
    notes |= more | {"replies_without_yes_or_no": f"{unclear} of {len(ids)}, {taken}" if unclear else 0}
    if harness:
        notes["yes_ratio"] = "lmms-eval counts the answers, not the replies: it is the same for every model"
    notes["counts"] = dict(zip(("tp", "fp", "fn", "tn", "other"), _confusion(outcomes), strict=True))
    return ScoringResult(ids=ids, expected=len(questions), unit="per cent", images=images, items={"accuracy": right},
                         metrics=metrics, skipped=skipped, notes=notes)  # fmt: skip


def _outcome(reply: str, label: str) -> int:
    if reply == "other":
        return OTHER_YES if label == "yes" else OTHER_NO
    return (HIT if label == "yes" else FALSE_ALARM) if reply == "yes" else (MISS if label == "yes" else REJECTION)


def _confusion(outcomes: Sequence[int]) -> list[int]:
    counts = [outcomes.count(kind) for kind in range(6)]
    return [*counts[:4], counts[OTHER_YES] + counts[OTHER_NO]]


def _by_image(outcomes: Sequence[int], images: Sequence[Hashable]) -> np.ndarray:
    """Return how often each outcome occurs in each image, float64 [images, 6]."""
    columns = [per_cluster([float(outcome == kind) for outcome in outcomes], images)[:, 0] for kind in range(6)]
    return np.stack(columns, axis=1)


def _ratios(by_image: np.ndarray, seed: int, *, harness: bool) -> Mapping[str, np.ndarray]:
    """Return each metric of the whole file and, after it, of the resampled ones; NaN where it is undefined."""
    counts = np.concatenate([by_image.sum(0, keepdims=True), resampled_sums(by_image, seed, "pope")])
    hits, false_alarms, misses = counts[:, HIT], counts[:, FALSE_ALARM], counts[:, MISS]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = hits / (hits + false_alarms), hits / (hits + misses)
        if harness:  # which puts 0 where nothing was counted
            precision, recall = np.nan_to_num(precision), np.nan_to_num(recall)
        f1 = 2 * precision * recall / (precision + recall)
    yes = counts[:, [HIT, MISS, OTHER_YES]] if harness else counts[:, [HIT, FALSE_ALARM]]
    return {
        "precision": precision,
        "recall": recall,
        "f1": np.nan_to_num(f1) if harness else f1,
        "yes_ratio": yes.sum(1) / counts.sum(1),
    }

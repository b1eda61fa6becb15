"""MME result folders: one text file a task, `image, question, answer, reply` by tabs, two questions an image."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lavit_scoring.bootstrap import ends, resampled_sums
from lavit_scoring.errors import InputError, UsageError, shorten
from lavit_scoring.estimate import Estimate
from lavit_scoring.files import file_sha256, read_bytes
from lavit_scoring.results import read_rows
from lavit_scoring.task import ScoringResult, ScoringTask
from lavit_scoring.yes_no import Reply, mme_harness_reply, mme_reply

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
GROUPS = {"perception": PERCEPTION, "cognition": COGNITION}

Question = tuple[str, str, str]
"""Task, image and question."""


@dataclass(frozen=True)
class _Image:
    """What became of the two questions of an image."""

    task: str
    name: str
    questions: tuple[str, str]
    right: tuple[float, float]
    other: int
    """How many replies are neither yes nor no."""


def read_mme(folder: Path) -> dict[Question, str]:
    """Return {(task, image, question): yes or no} of MME's folder of text files, in the order of tasks and lines.

    Raises InputError naming file and line.
    """
    return {key: row[2].lower() for key, row in _read_folder(folder, columns=3).items()}


def score_mme(task: ScoringTask) -> ScoringResult:
    """Score replies by MME's script, or by lmms-eval's task. Raises InputError if questions do not match.

    A task's score is its accuracy and its accuracy+ (images with both questions right) in per cent, added. The groups
    are sums over tasks, and need all of them.
    """
    if task.partial:
        raise UsageError("--partial: an MME score is a sum over whole tasks; leave out the files of tasks instead")
    truths = read_mme(task.annotations)
    replies, digest = _read_replies(task.results)
    _check_same(task, truths, replies)
    read = mme_harness_reply if task.protocol == "lmms-eval" else mme_reply
    images = _images(task.annotations, truths, replies, read)
    metrics, skipped = dict[str, Estimate](), dict[str, str]()
    points: dict[str, np.ndarray] = {}
    for name in (*PERCEPTION, *COGNITION):
        if own := [image for image in images if image.task == name]:
            points[name] = _task_metrics(name, own, task.seed, metrics)
    for group, names in (*GROUPS.items(), ("total", (*PERCEPTION, *COGNITION))):
        if missing := [name for name in names if name not in points]:
            skipped[group] = f"needs all {len(names)} tasks, {', '.join(missing)} missing"
        else:
            count = sum(metrics[name].n for name in names)
            metrics[group] = _rounded(np.sum([points[name] for name in names], axis=0), count)
    # The sums first: they are what papers quote.
    order = [name for name in ("total", *GROUPS) if name in metrics]
    metrics = {name: metrics[name] for name in (*order, *(name for name in metrics if name not in order))}
    other = sum(image.other for image in images)
    ids = ["/".join((image.task, image.name, question)) for image in images for question in image.questions]
    inputs = {"annotations": _folder_digest(task.annotations), "results": digest}
    return ScoringResult(
        ids=ids,
        expected=len(truths),
        unit="a point: a task has 200, perception 2,000, cognition 800; accuracy, accuracy_plus: per cent",
        images=[f"{image.task}/{image.name}" for image in images for _ in image.questions],
        items={"accuracy": [score for image in images for score in image.right]},
        metrics=metrics,
        skipped=skipped,
        notes={"replies_neither_yes_nor_no": f"{other} of {len(ids)}, counted as wrong" if other else 0},
        inputs=inputs,
    )


def _task_metrics(name: str, images: Sequence[_Image], seed: int, metrics: dict[str, Estimate]) -> np.ndarray:
    """Add a task's metrics; return its score and, after it, that of resampled images."""
    parts = np.array([(sum(image.right) / 2, float(sum(image.right) == 2)) for image in images])
    sums = np.concatenate([parts.sum(0, keepdims=True), resampled_sums(parts, seed, name)])
    accuracy, plus = 100 * sums.T / len(images)
    metrics[name] = _rounded(accuracy + plus, 2 * len(images))
    metrics[f"{name}.accuracy"] = _rounded(accuracy, 2 * len(images))
    metrics[f"{name}.accuracy_plus"] = _rounded(plus, len(images))
    return np.asarray(accuracy + plus)


def _rounded(values: np.ndarray, count: int) -> Estimate:
    """Return a metric from its value and, after it, the resampled ones; two decimals."""
    value, low, high = (round(float(number), 2) for number in (values[0], *ends(values[1:])))
    return Estimate(value, low, high, count)


def _images(
    folder: Path, truths: dict[Question, str], replies: dict[Question, str], read: Callable[[str], Reply]
) -> list[_Image]:
    """Return the images in the order of tasks and lines. Raises InputError if one has not just two questions."""
    asked: dict[tuple[str, str], list[Question]] = {}
    for key in truths:
        asked.setdefault(key[:2], []).append(key)
    images = []
    for (name, image), keys in asked.items():
        if len(keys) != 2:
            raise InputError(f"{folder / name}.txt: image {image} has {len(keys)} questions, expected two")
        said = [read(replies[key]) for key in keys]
        first, second = (float(reply == truths[key]) for reply, key in zip(said, keys, strict=True))
        images.append(_Image(name, image, (keys[0][2], keys[1][2]), (first, second), said.count("other")))
    return images


def _check_same(task: ScoringTask, truths: dict[Question, str], replies: dict[Question, str]) -> None:
    if lacking := [key for key in truths if key not in replies]:
        where = " / ".join(lacking[0])
        raise InputError(f"{task.results}: {len(lacking)} of {len(truths)} questions have no reply, say {where}")
    if extra := [key for key in replies if key not in truths]:
        raise InputError(f"{task.results}: {len(extra)} replies belong to no question, say {' / '.join(extra[0])}")


def _read_replies(path: Path) -> tuple[dict[Question, str], str]:
    """Return the replies of MME's folder, or of rows {category, image, question, answer}, and their digest."""
    if path.is_dir():
        return {key: row[3] for key, row in _read_folder(path, columns=4).items()}, _folder_digest(path)
    replies: dict[Question, str] = {}
    for number, row in enumerate(read_rows(path), 1):
        values = [row.get(key) for key in ("category", "image", "question", "answer")] if isinstance(row, dict) else []
        if len(values) != 4 or not all(isinstance(value, str) for value in values):
            raise InputError(f"{path}: row {number} is {shorten(row)}, expected category, image, question and answer")
        name, image, question, reply = map(str, values)
        if (name, image, question) in replies:
            raise InputError(f"{path}: row {number}: the question {shorten(question)} of {image} has two replies")
        replies[name, image, question] = reply
    return replies, file_sha256(path)


def _read_folder(folder: Path, *, columns: int) -> dict[Question, list[str]]:
    rows: dict[Question, list[str]] = {}
    for name in (*PERCEPTION, *COGNITION):
        file = folder / f"{name}.txt"
        if not file.is_file():
            continue
        for number, line in enumerate(read_bytes(file).decode("utf-8-sig").split("\n"), 1):
            if not line.strip():
                continue
            row = line.rstrip("\r").split("\t")
            if len(row) not in (columns, 4):
                raise InputError(
                    f"{file}:{number}: {len(row)} columns by tabs, expected {columns}: image, question, ..."
                )
            if row[2].lower() not in ("yes", "no"):
                raise InputError(f"{file}:{number}: the answer is {shorten(row[2])}, expected Yes or No")
            if (name, row[0], row[1]) in rows:
                raise InputError(f"{file}:{number}: this question of {row[0]} occurs twice")
            rows[name, row[0], row[1]] = row
    if not rows:
        raise InputError(f"{folder}: none of MME's task files ({PERCEPTION[0]}.txt ... {COGNITION[-1]}.txt) is here")
    return rows


def _folder_digest(folder: Path) -> str:
    files = [folder / f"{name}.txt" for name in (*PERCEPTION, *COGNITION)]
    digests = [f"{file.name} {file_sha256(file)}" for file in files if file.is_file()]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()

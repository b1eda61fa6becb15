"""WISE: what a judge gave each image for world knowledge, weighed by category.

Source: PKU-YuanGroup/WISE. `official` is the paper's (Calculate.py, now in WISE_legacy): consistency, realism and
aesthetic quality of 0 to 2 each. `verified` is WISE_Verified of 2026 (calculate_verified.py): other prompts, one score
of 0 or 1, other weights. Calculate.py takes 999, which stands for a judge that failed, as a score; here it is refused,
or left out and marked with --partial.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lavit_scoring.bootstrap import ends, resampled_sums
from lavit_scoring.errors import InputError, shorten, some_names
from lavit_scoring.estimate import Estimate
from lavit_scoring.files import file_sha256, read_json
from lavit_scoring.results import align, read_rows
from lavit_scoring.task import UNKNOWN_WORDS, ScoringResult, ScoringTask, judge_of

SHARES = {"consistency": 0.7, "realism": 0.2, "aesthetic_quality": 0.1}
"""What each of the judge's three numbers weighs in a WiScore, which is half their sum."""

FILES = ("cultural_common_sense", "spatio-temporal_reasoning", "natural_science")
"""The prompts are in three files; WISE_Verified's have `_verified` at the end."""


@dataclass(frozen=True, kw_only=True)
class Category:
    """A part of the prompts."""

    last: int
    """Its last prompt_id; it begins after the category before."""
    weight: float


OFFICIAL = {
    "cultural": Category(last=400, weight=0.4),
    "time": Category(last=567, weight=0.167),
    "space": Category(last=700, weight=0.133),
    "biology": Category(last=800, weight=0.1),
    "physics": Category(last=900, weight=0.1),
    "chemistry": Category(last=1000, weight=0.1),
}
VERIFIED = {
    "cultural": Category(last=400, weight=0.4),
    "time": Category(last=520, weight=0.12),
    "space": Category(last=640, weight=0.12),
    "biology": Category(last=760, weight=0.12),
    "physics": Category(last=880, weight=0.12),
    "chemistry": Category(last=1000, weight=0.12),
}


def read_wise(prompts: Path) -> dict[int, dict[str, Any]]:
    """Return {prompt_id: row} of WISE's prompts: a folder with its files, one of them with the others beside it, or all
    in one. Raises InputError for a row without prompt_id and Prompt, and for one prompt_id twice."""
    rows: dict[int, dict[str, Any]] = {}
    for file in wise_files(prompts):
        content = read_json(file)
        if not isinstance(content, list):
            raise InputError(f"{file}: found {type(content).__name__}, expected an array of prompts")
        for number, row in enumerate(content, 1):
            known = isinstance(row, dict) and isinstance(row.get("Prompt"), str)
            if not known or not isinstance(row.get("prompt_id"), int) or isinstance(row["prompt_id"], bool):
                raise InputError(f"{file}: row {number} is {shorten(row)}, expected prompt_id and Prompt")
            if row["prompt_id"] in rows:
                raise InputError(f"{file}: prompt_id {row['prompt_id']} occurs twice, expected each once")
            rows[row["prompt_id"]] = row
    return rows


def wise_files(prompts: Path) -> list[Path]:
    """Return the files of prompts. Raises InputError for a folder without them, and one of them without the others."""
    if prompts.is_dir():
        for end in ("", "_verified"):
            files = [prompts / f"{name}{end}.json" for name in FILES]
            if all(file.is_file() for file in files):
                return files
        raise InputError(f"{prompts}: expected {', '.join(f'{name}.json' for name in FILES)}")
    ending = next((prompts.name.removeprefix(name) for name in FILES if prompts.name.startswith(name)), None)
    if ending is None:
        return [prompts]
    files = [prompts.with_name(f"{name}{ending}") for name in FILES]
    if lacking := [file.name for file in files if not file.is_file()]:
        raise InputError(f"{prompts}: a part of the prompts, expected {' and '.join(lacking)} beside it")
    return files


def files_digest(files: Sequence[Path]) -> str:
    """Return the SHA-256 of one file, or of several files' names and digests."""
    if len(files) == 1:
        return file_sha256(files[0])
    return hashlib.sha256("".join(f"{file.name}\0{file_sha256(file)}\n" for file in files).encode()).hexdigest()


def score_wise(task: ScoringTask) -> ScoringResult:
    """Score a judge's numbers: a file, or a folder of several `.jsonl`. Raises InputError if prompts don't match."""
    verified = task.protocol == "verified"
    categories = VERIFIED if verified else OFFICIAL
    prompts = read_wise(task.annotations)
    unknown = [name for name in prompts if _category(name, categories) is None]
    if unknown:
        raise InputError(f"{task.annotations}: prompt_id {unknown[0]}, expected 1 to 1000")
    files = _result_files(task.results)
    scores, failed = _read_scores(files, task, verified=verified)
    ids, notes = align(task, scores, prompts, what="prompt")
    values = [scores[name] for name in ids]
    groups = [str(_category(name, categories)) for name in ids]
    metrics, skipped = _metrics(values, groups, categories, task.seed)
    if failed:
        notes["failed"] = f"{len(failed)} prompts that the judge failed on are left out ({some_names(failed)})"
    notes |= {"images_per_prompt": 1, "prompts": UNKNOWN_WORDS, "judge": judge_of(task)}
    inputs = {"results": files_digest(files), "annotations": files_digest(wise_files(task.annotations))}
    return ScoringResult(
        ids=ids, expected=len(prompts), unit="1", items={"score": values}, metrics=metrics, skipped=skipped,
        notes=notes, inputs=inputs,
    )  # fmt: skip


def _result_files(results: Path) -> list[Path]:
    if not results.is_dir():
        return [results]
    if files := sorted(results.glob("*.jsonl")):
        return files
    raise InputError(f"{results}: no .jsonl file in it, expected the judge's scores, say *_scores_results.jsonl")


def _read_scores(
    files: Sequence[Path], task: ScoringTask, *, verified: bool
) -> tuple[dict[int | str, float], list[int | str]]:
    """Return {prompt_id: WiScore of 0 to 1}, and the prompts on which the judge failed."""
    scores: dict[int | str, float] = {}
    failed: list[int | str] = []
    for file in files:
        for number, row in enumerate(read_rows(file), 1):
            names, most = (("score",), 1) if verified else (tuple(SHARES), 2)
            if not isinstance(row, dict) or not {"prompt_id", *names} <= row.keys():
                raise InputError(f"{file}: row {number} is {shorten(row)}, expected prompt_id, {', '.join(names)}")
            given, name = [row[one] for one in names], row["prompt_id"]
            if not isinstance(name, int | str):
                raise InputError(f"{file}: row {number}: prompt_id is {shorten(name)}, expected a number")
            if name in scores or name in failed:
                raise InputError(f"{file}: prompt_id {json.dumps(name)} has two results, expected one")
            wrong = [one for one in given if not _is_score(one, most)]
            if wrong and not (task.partial and wrong[0] in (999, None)):
                raise InputError(
                    f"{file}: prompt {name} has {shorten(wrong[0])}, expected 0 to {most}; judge it again (999 is a "
                    "judge that failed), or leave it out with --partial, marked as such"
                )
            if wrong:
                failed.append(name)
            else:
                scores[name] = float(given[0]) if verified else _wiscore(given)
    return scores, failed


def _wiscore(given: Sequence[float]) -> float:
    """Return the WiScore, 0 to 1, of the judge's three numbers, 0 to 2 each."""
    return sum(share * one for share, one in zip(SHARES.values(), given, strict=True)) / 2


def _is_score(value: Any, most: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value in range(most + 1)


def _category(prompt_id: int, categories: Mapping[str, Category]) -> str | None:
    if prompt_id < 1:
        return None
    return next((name for name, one in categories.items() if prompt_id <= one.last), None)


def _metrics(
    values: Sequence[float], groups: Sequence[str], categories: Mapping[str, Category], seed: int
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Return the mean of each category and, where none is missing, their weighted sum; prompts are resampled."""
    names = [name for name in categories if name in groups]
    parts = np.zeros((len(values), 2 * len(names)))
    for row, (value, group) in enumerate(zip(values, groups, strict=True)):
        place = 2 * names.index(group)
        parts[row, place : place + 2] = value, 1
    sums = np.concatenate([parts.sum(0, keepdims=True), resampled_sums(parts, seed, "wise")])
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[:, ::2] / sums[:, 1::2]
    metrics = {}
    skipped = {}
    if len(names) == len(categories):
        weights = np.array([one.weight for one in categories.values()])
        metrics["score"] = _estimate(means @ weights, len(values))
    else:
        missing = [name for name in categories if name not in names]
        skipped["score"] = f"no prompt of {', '.join(missing)}, which the sum over categories needs"
    metrics |= {f"score.{name}": _estimate(means[:, n], groups.count(name)) for n, name in enumerate(names)}
    return metrics, skipped


def _estimate(means: np.ndarray, count: int) -> Estimate:
    value, low, high = (round(float(one), 4) for one in (means[0], *ends(means[1:])))
    return Estimate(value, low, high, count)

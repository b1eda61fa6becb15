"""GenEval: what any judge found in generated images, against the benchmark's prompts, prompt by prompt.

Source: djghosh13/geneval, evaluation/summary_scores.py, which averages whatever it is given: results without the last
prompts get a score like any other. Here they are refused, or marked with --partial.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lavit_scoring.bootstrap import ends, percent_by, resampled_sums
from lavit_scoring.errors import InputError, shorten
from lavit_scoring.estimate import Estimate
from lavit_scoring.files import read_json_lines
from lavit_scoring.results import align
from lavit_scoring.task import ScoringResult, ScoringTask, judge_of


def score_geneval(task: ScoringTask) -> ScoringResult:
    """Score `results.jsonl` of evaluate_images.py, or of another judge in its layout.

    Raises InputError for prompts without images, or with unequal numbers of them, unless partial; for rows that are
    not verdicts, and for two different ones about one image.
    """
    wanted = _read(task.annotations, ("tag", "prompt"))
    prompts = {geneval_key(row): row for row in wanted}
    if len(prompts) < len(wanted):
        raise InputError(f"{task.annotations}: {len(wanted)} rows about {len(prompts)} prompts, expected each once")
    verdicts, rewritten, repeated = _read_verdicts(task.results)
    ids, notes = align(task, verdicts, prompts, what="prompt")
    notes |= {"merged_equal_rows": repeated} if repeated else {}
    counts = {len(verdicts[name]) for name in ids}
    if len(counts) > 1 and not task.partial:
        fewest = min(ids, key=lambda name: len(verdicts[name]))
        raise InputError(
            f"{task.results}: {min(counts)} to {max(counts)} images a prompt, expected equally many (fewest: "
            f"{prompts[fewest]['prompt']!r}); judge the others, or score what is there with --partial, marked as such"
        )
    tags = [prompts[name]["tag"] for name in ids]
    means = [float(np.mean(verdicts[name])) for name in ids]
    metrics = {"score": _mean_of_tags([verdicts[name] for name in ids], tags, task.seed)}
    metrics |= percent_by("score", means, ids, tags, task.seed)
    given = [rewritten[name] for name in ids]
    own = given == [prompts[name]["prompt"] for name in ids]
    notes |= {
        "images_per_prompt": min(counts) if len(counts) == 1 else f"{min(counts)} to {max(counts)}",
        "prompts": f"{'original' if own else 'rewritten'}, sha256 {_digest(given)}",
        "judge": judge_of(task),
        "correct_prompts": f"{sum(any(verdicts[name]) for name in ids)} of {len(ids)}",
    }
    return ScoringResult(ids=[prompts[name]["prompt"] for name in ids], expected=len(prompts), unit="per cent",
                         items={"correct": means}, metrics=metrics, notes=notes)  # fmt: skip


def _read_verdicts(file: Path) -> tuple[dict[str, list[float]], dict[str, str], int]:
    """Return {prompt: a verdict of 0 or 1 for each image}, {prompt: the words that were drawn}, and how many rows are
    repeats of others. A row without `filename` is an image of its own."""
    verdicts: dict[str, list[float]] = {}
    rewritten: dict[str, str] = {}
    seen: dict[tuple[str, str], float] = {}
    repeated = 0
    for number, row in enumerate(_read(file, ("tag", "prompt", "correct", "metadata")), 1):
        key = geneval_key(_metadata(file, number, row["metadata"]))
        if row["correct"] not in (0, 1):  # True and False are equal to these, texts are not
            raise InputError(f"{file}: row {number}: correct is {shorten(row['correct'])}, expected true or false")
        verdict, name = float(row["correct"]), str(row.get("filename"))
        if row.get("filename") is not None and (key, name) in seen:
            if seen[key, name] != verdict:
                raise InputError(f"{file}: row {number}: {name} is judged twice, correct and not; keep one")
            repeated += 1
            continue
        seen[key, name] = verdict
        verdicts.setdefault(key, []).append(verdict)
        rewritten[key] = str(row["prompt"])
    return verdicts, rewritten, repeated


def _metadata(file: Path, number: int, given: Any) -> dict[str, Any]:
    """Return a result's `metadata`, an object or JSON text of one. Raises InputError naming the row."""
    try:
        metadata = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise InputError(
            f"{file}: row {number}: metadata is {shorten(given)}, expected the prompt's row of "
            "evaluation_metadata.jsonl as JSON"
        )
    return metadata


def _mean_of_tags(verdicts: Sequence[Sequence[float]], tags: Sequence[str], seed: int) -> Estimate:
    """Return the mean over the tasks of each task's mean over its images, in per cent; prompts are resampled."""
    names = sorted(set(tags))
    parts = np.zeros((len(tags), 2 * len(names)))
    for row, (own, tag) in enumerate(zip(verdicts, tags, strict=True)):
        place = 2 * names.index(tag)
        parts[row, place : place + 2] = sum(own), len(own)
    sums = np.concatenate([parts.sum(0, keepdims=True), resampled_sums(parts, seed, "geneval")])
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.nanmean(sums[:, ::2] / sums[:, 1::2], axis=1)
    value, low, high = (round(100 * float(one), 2) for one in (scores[0], *ends(scores[1:])))
    return Estimate(value, low, high, sum(map(len, verdicts)))


def geneval_key(metadata: Mapping[str, Any]) -> str:
    """Return a prompt's identity: its row of evaluation_metadata.jsonl, which a result repeats in `metadata`.

    Without its words: files of rewritten prompts (BAGEL's evaluation_metadata_long.jsonl) change them and keep the
    rest, and the official prompts are one of each kind.
    """
    return json.dumps({name: value for name, value in metadata.items() if name != "prompt"}, sort_keys=True)


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _read(file: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    rows = read_json_lines(file)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not set(columns) <= row.keys():
            raise InputError(f"{file}: row {number} is {shorten(row)}, expected {', '.join(columns)}")
    if not rows:
        raise InputError(f"{file}: no rows, expected one a line with {', '.join(columns)}")
    return rows

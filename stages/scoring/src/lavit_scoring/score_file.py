"""`lavit eval score`: one result file of any model, scored without loading one."""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lavit_scoring.captions import score_captions
from lavit_scoring.catalogue import Benchmark, refuse_split
from lavit_scoring.errors import InputError, UsageError
from lavit_scoring.files import file_sha256, read_json, write_json, write_text
from lavit_scoring.gqa import score_gqa
from lavit_scoring.metrics.java import why_no_java
from lavit_scoring.metrics.lemmas import RULES
from lavit_scoring.score import Score
from lavit_scoring.task import Scored, ScoringTask
from lavit_scoring.vizwiz import score_answerability, score_vizwiz
from lavit_scoring.vqa import score_vqa

Scorer = Callable[[ScoringTask], Scored]

SCORERS: dict[str, Scorer] = {
    "vqa": score_vqa,
    "vizwiz": score_vizwiz,
    "answerability": score_answerability,
    "gqa": score_gqa,
    "caption": score_captions,
}
PROTOCOLS = ("official", "lavit")
VERSION = 1
"""Goes up whenever the same files could get another figure."""

GENERATION_FILE = "generation.json"
"""Beside a result file that `lavit eval` wrote: how its answers were made."""


def score_file(
    benchmark: Benchmark, task: ScoringTask, out: Path | None = None, scorer: Scorer | None = None
) -> dict[str, Any]:
    """Score a result file and return score.json's content; with `out`, write it and the score of every item there.

    `scorer` replaces the benchmark's own, for results that are not one file. Raises UsageError and InputError before
    anything is computed, naming what is missing.
    """
    check(benchmark, task, scorer)
    began = time.monotonic()
    scored = (scorer or SCORERS[benchmark.kind])(task)
    protocol = scored.protocol or task.protocol
    score = Score(protocol=protocol, version=VERSION, skipped=scored.skipped, notes=scored.notes)
    score.seconds["score"] = time.monotonic() - began
    complete = len(scored.ids) == scored.expected
    if complete:
        score.metrics = scored.metrics
    result = score.as_json(about(benchmark, task, scored))
    if not complete:
        # Under another name, so that nobody can average them as the benchmark's figures.
        result["partial"] |= {"figures": {name: metric.as_json() for name, metric in scored.metrics.items()}}
    if out is not None:
        write(out, result, scored)
    return result


def check(benchmark: Benchmark, task: ScoringTask, scorer: Scorer | None = None) -> None:
    """Raise UsageError or InputError for what can't be scored, before any file is read through."""
    if task.protocol not in PROTOCOLS:
        raise UsageError(f"--protocol {task.protocol}: expected one of {', '.join(PROTOCOLS)}")
    compares_lemmas = task.protocol == "lavit" and benchmark.kind in ("vqa", "vizwiz", "gqa")
    if compares_lemmas and task.lemmatizer is None:
        raise UsageError(
            "--protocol lavit compares lemmas; say where they come from: --lemmatizer given (both files hold lemmas, "
            "as LaVIT's *_lemm.json do), rules (built in, not the published ones), or a spaCy model directory"
        )
    if task.lemmatizer is not None and not compares_lemmas:
        raise UsageError(
            f"--lemmatizer {task.lemmatizer}: {benchmark.name} under --protocol {task.protocol} has no lemmas"
        )
    if benchmark.kind == "edit" and scorer is None:
        raise UsageError(f"{benchmark.name}: edited images are scored by lavit-evaluation, `lavit eval score`")
    if task.choices is not None and benchmark.kind != "gqa":
        raise UsageError(f"--choices: {benchmark.name} has none; GQA has")
    if task.java and benchmark.kind != "caption":
        raise UsageError(f"--java: METEOR and SPICE belong to captions, not to {benchmark.name}")
    if task.java and len(reasons := why_no_java()) == 2:
        raise InputError(f"--java: {reasons['meteor']}")
    refuse_split(benchmark, task.split)
    results = () if benchmark.kind == "edit" else (("--results", task.results),)
    for option, file in (*results, ("--annotations", task.annotations),
                         ("--questions", task.questions), ("--choices", task.choices)):  # fmt: skip
        if file is not None and not file.is_file():
            raise InputError(f"{option} {file}: {'a folder' if file.is_dir() else 'file not found'}, expected a file")


def about(benchmark: Benchmark, task: ScoringTask, scored: Scored) -> dict[str, Any]:
    """Return what score.json says beside its figures."""
    files = {"results": task.results, "annotations": task.annotations, "questions": task.questions,
             "choices": task.choices}  # fmt: skip
    inputs = scored.inputs | {
        name: file_sha256(file) for name, file in files.items() if file is not None and name not in scored.inputs
    }
    lemmas = {"rules": RULES, "given": "given in the files"}.get(task.lemmatizer or "", task.lemmatizer)
    generation = _generation(task.results, inputs["results"])
    content: dict[str, Any] = {
        "benchmark": benchmark.name,
        "complete": len(scored.ids) == scored.expected,
        "items": {"scored": len(scored.ids), "expected": scored.expected, "digest": examples_digest(scored.ids)},
        "unit": scored.unit,
        "lemmatizer": lemmas,
        "generation": generation,
        "inputs": inputs,
        "settings": {
            "split": task.split,
            "java": task.java,
            "seed": task.seed,
            "interval": "95 %, bootstrap over pictures, 1000 resamples",
            **scored.settings,
        },
        "published": {"figures": benchmark.published, "by": f"{benchmark.published_by}, not measured here"}
        if benchmark.published
        else None,
        "command": sys.argv,
    }
    if not content["complete"]:
        content["partial"] = {"scored": len(scored.ids), "expected": scored.expected}
    return content


def examples_digest(ids: list[Any]) -> str:
    """Return the SHA-256 of the set of ids: equal for two scores exactly when they rest on the same examples."""
    return hashlib.sha256("\n".join(sorted(json.dumps(str(name)) for name in ids)).encode()).hexdigest()


def write(out: Path, result: dict[str, Any], scored: Scored) -> None:
    """Write score.json and items.jsonl (the scores of each item) into a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: can't be a folder ({error.strerror}); give another") from None
    columns = ({"image": scored.images} if scored.images else {}) | dict(scored.items)
    rows = zip(scored.ids, *columns.values(), strict=True) if columns else ()
    lines = (json.dumps({"id": row[0], **dict(zip(columns, row[1:], strict=True))}, ensure_ascii=False) for row in rows)
    write_text(out / "items.jsonl", "".join(f"{line}\n" for line in lines))
    write_json(out / "score.json", result)


def _generation(results: Path, digest: str) -> dict[str, Any] | str:
    """Return how the answers were made, when the file beside them says so of exactly these results."""
    beside = results.parent / GENERATION_FILE
    if beside.is_file():
        known = read_json(beside)
        if isinstance(known, dict) and known.get("results") == digest:
            return {key: value for key, value in known.items() if key != "results"}
    return "not known: a result file does not say how its answers were made"

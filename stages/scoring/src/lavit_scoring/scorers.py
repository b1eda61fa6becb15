"""One result file of any model, scored without loading one: score.json and items.jsonl.

`score_results` computes and `write_score` writes, so a scorer outside of this package calls `write_score` alone.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lavit_scoring.captions import score_captions
from lavit_scoring.catalogue import Benchmark, refuse_split
from lavit_scoring.choices import score_ai2d, score_mmbench, score_mmmu, score_scienceqa, score_seed
from lavit_scoring.dpg import score_dpg
from lavit_scoring.errors import InputError, UsageError
from lavit_scoring.files import file_sha256, read_json, write_json, write_text
from lavit_scoring.geneval import score_geneval
from lavit_scoring.gqa import score_gqa
from lavit_scoring.metrics.java import why_no_java
from lavit_scoring.metrics.lemmas import RULES
from lavit_scoring.mme import score_mme
from lavit_scoring.pope import score_pope
from lavit_scoring.score import Score, mark_partial
from lavit_scoring.t2i_compbench import score_t2i, score_t2i_complex
from lavit_scoring.task import ScoringResult, ScoringTask
from lavit_scoring.textvqa import score_textvqa
from lavit_scoring.vizwiz import score_answerability, score_vizwiz
from lavit_scoring.vqa import score_vqa
from lavit_scoring.wise import score_wise

SCORERS: dict[str, Callable[[ScoringTask], ScoringResult]] = {
    "vqa": score_vqa,
    "vizwiz": score_vizwiz,
    "answerability": score_answerability,
    "gqa": score_gqa,
    "caption": score_captions,
    "pope": score_pope,
    "mme": score_mme,
    "seed": score_seed,
    "mmmu": score_mmmu,
    "ai2d": score_ai2d,
    "scienceqa": score_scienceqa,
    "mmbench": score_mmbench,
    "textvqa": score_textvqa,
    "geneval": score_geneval,
    "dpg": score_dpg,
    "wise": score_wise,
    "t2i": score_t2i,
    "t2i_complex": score_t2i_complex,
}
PROTOCOLS = ("official", "lavit", "lmms-eval", "llava", "vlmevalkit", "corrected", "verified")
JUDGED = ("geneval", "dpg", "wise", "t2i", "t2i_complex")
"""Kinds whose results are what a judge found in generated images."""
FOLDERS = {
    "edit": ("results",),
    "mme": ("results", "annotations"),
    "wise": ("results", "annotations"),
    "t2i_complex": ("results",),
}
"""Options that may name a folder, by kind."""
VERSION = 1
"""Goes up whenever the same files could get another value."""

GENERATION_FILE = "generation.json"
"""Beside a result file that `lavit eval` wrote: how its answers were made."""
RECORD_LEVELS = 5
"""How many folders up the record of judged images is looked for."""


def score_file(benchmark: Benchmark, task: ScoringTask, out: Path | None = None) -> dict[str, Any]:
    """Score a result file and return score.json's content; with `out`, write it and the score of every item there.

    Raises UsageError and InputError before anything is computed, naming what is missing.
    """
    return write_score(benchmark, task, score_results(benchmark, task), out)


def score_results(benchmark: Benchmark, task: ScoringTask) -> ScoringResult:
    """Score a result file. Raises what `check` raises, and UsageError for a benchmark of edited images."""
    if benchmark.kind not in SCORERS:
        raise UsageError(f"{benchmark.name}: edited images are scored by lavit-evaluation, `lavit eval score`")
    check(benchmark, task)
    began = time.monotonic()
    result = SCORERS[benchmark.kind](task)
    result.seconds = time.monotonic() - began
    return result


def write_score(benchmark: Benchmark, task: ScoringTask, result: ScoringResult, out: Path | None) -> dict[str, Any]:
    """Return score.json's content; with `out`, write it and the score of every item there. Raises UsageError."""
    metadata = _metadata(benchmark, task, result)
    score = Score(
        protocol=result.protocol or task.protocol,
        version=VERSION,
        metrics=result.metrics,
        skipped=result.skipped,
        notes=result.notes | _drawn_words(metadata["generation"]),
        seconds={"score": result.seconds},
    )
    content = mark_partial(score.as_json(metadata))
    if out is not None:
        _write(out, content, result)
    return content


def check(benchmark: Benchmark, task: ScoringTask) -> None:
    """Raise UsageError or InputError for what can't be scored, before any file is read through."""
    if check_protocol(benchmark, task.protocol, task.lemmatizer) and task.lemmatizer is None:
        raise UsageError(
            "--protocol lavit compares lemmas; say where they come from: --lemmatizer given (both files contain "
            "lemmas, as LaVIT's *_lemm.json do), rules (built in, not the published ones), or a spaCy model directory"
        )
    if task.choices is not None and benchmark.kind != "gqa":
        raise UsageError(f"--choices: {benchmark.name} has none; GQA has")
    if task.java and benchmark.kind != "caption":
        raise UsageError(f"--java: METEOR and SPICE belong to captions, not to {benchmark.name}")
    if task.judge is not None and benchmark.kind not in JUDGED:
        raise UsageError(f"--judge {task.judge}: {benchmark.name} is scored without one")
    if task.java and len(reasons := why_no_java()) == 2:
        raise InputError(f"--java: {reasons['meteor']}")
    refuse_split(benchmark, task.split)
    for option, file in _files(task).items():
        folders = FOLDERS.get(benchmark.kind, ())
        if not file.is_file() and not (option in folders and (file.is_dir() or benchmark.kind == "edit")):
            raise InputError(f"--{option} {file}: {'a folder' if file.is_dir() else 'file not found'}, expected a file")


def check_protocol(benchmark: Benchmark, protocol: str, lemmatizer: str | None) -> bool:
    """Return whether lemmas are compared. Raises UsageError for another protocol, or a lemmatizer without use."""
    if protocol not in benchmark.protocols:
        raise UsageError(
            f"--protocol {protocol}: not one of {benchmark.name}, expected one of {', '.join(benchmark.protocols)}"
        )
    compares_lemmas = protocol == "lavit" and benchmark.kind in ("vqa", "vizwiz", "gqa")
    if lemmatizer is not None and not compares_lemmas:
        raise UsageError(f"--lemmatizer {lemmatizer}: {benchmark.name} under --protocol {protocol} has no lemmas")
    return compares_lemmas


def examples_digest(ids: list[Any]) -> str:
    """Return the SHA-256 of the set of ids: equal for two scores exactly if they rest on the same examples."""
    return hashlib.sha256("\n".join(sorted(json.dumps(str(name)) for name in ids)).encode()).hexdigest()


def _files(task: ScoringTask) -> dict[str, Path]:
    files = {"results": task.results, "annotations": task.annotations, "questions": task.questions,
             "choices": task.choices}  # fmt: skip
    return {role: file for role, file in files.items() if file is not None}


def _metadata(benchmark: Benchmark, task: ScoringTask, result: ScoringResult) -> dict[str, Any]:
    """Return what score.json records beside its metrics."""
    files = {role: file for role, file in _files(task).items() if role not in result.inputs}
    inputs = result.inputs | {role: file_sha256(file) for role, file in files.items()}
    published = {"figures": benchmark.published, "by": f"{benchmark.published_by}, not measured here"}
    return {
        "benchmark": benchmark.name,
        "complete": len(result.ids) == result.expected,
        "items": {"scored": len(result.ids), "expected": result.expected, "digest": examples_digest(result.ids)},
        "unit": result.unit,
        "lemmatizer": {"rules": RULES, "given": "given in the files"}.get(task.lemmatizer or "", task.lemmatizer),
        "generation": _generation(benchmark, task.results, inputs),
        "inputs": inputs,
        "settings": {
            "split": task.split,
            "java": task.java,
            "seed": task.seed,
            "interval": "95 %, bootstrap over images, 1000 resamples",
            **result.settings,
        },
        "published": published if benchmark.published else None,
        "command": sys.argv,
    }


def _generation(benchmark: Benchmark, results: Path, inputs: Mapping[str, str]) -> dict[str, Any] | str:
    """Return how the answers were made, if the file beside them describes exactly these results, or, of images that a
    judge looked at, the benchmark's same prompts; judges write into folders of their own."""
    judged = benchmark.kind in JUDGED
    for place in [results, *results.parents][:RECORD_LEVELS] if judged else [results.parent]:
        known = read_json(place / GENERATION_FILE) if (place / GENERATION_FILE).is_file() else None
        if not isinstance(known, dict):
            continue
        of_images = judged and known.get("benchmark") == benchmark.name
        role = "annotations" if of_images else "results"
        if known.get(role) == inputs.get(role, ""):
            return {key: value for key, value in known.items() if key != "results"}
    return "not known: a result file does not say how its answers were made"


def _drawn_words(generation: dict[str, Any] | str) -> dict[str, str]:
    """Return a note on the words that images were drawn from, where their record says so."""
    prompts = generation.get("prompts") if isinstance(generation, dict) else None
    return {"prompts": f"{prompts['words']}, sha256 {prompts['sha256']}"} if isinstance(prompts, dict) else {}


def _write(out: Path, content: dict[str, Any], result: ScoringResult) -> None:
    """Write score.json and items.jsonl (the scores of each item) into a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: can't be a folder ({error.strerror}); give another") from None
    columns = ({"image": result.images} if result.images else {}) | dict(result.items)
    rows = zip(result.ids, *columns.values(), strict=True) if columns else ()
    lines = (json.dumps({"id": row[0], **dict(zip(columns, row[1:], strict=True))}, ensure_ascii=False) for row in rows)
    write_text(out / "items.jsonl", "".join(f"{line}\n" for line in lines))
    write_json(out / "score.json", content)

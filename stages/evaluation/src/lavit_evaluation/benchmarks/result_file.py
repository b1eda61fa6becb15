"""The server's result file, and beside it how its answers were made."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lavit_core.files import file_sha256, read_json, write_json
from lavit_core.rundir import versions
from lavit_scoring import Benchmark
from lavit_scoring.scorers import GENERATION_FILE

from lavit_evaluation.benchmarks.wording import CLEANED

RESULTS_FILE = "results.json"

COLUMNS = {
    "vqa": ("question_id", "answer"),
    "vizwiz": ("image", "answer"),
    "gqa": ("questionId", "prediction"),
    "caption": ("image_id", "caption"),
}
"""Names of the columns in each server's result file."""


def write_results(
    benchmark: Benchmark, rows: Iterable[Mapping[str, Any]], out: Path, model: Mapping[str, str],
    made: Mapping[str, Any], protocol: str,
) -> None:  # fmt: skip
    """Write results.json from rows {id, answer} in their order, and generation.json.

    `model` are the digests of the model's parts, `made` the record of how it decodes.
    """
    name, value = COLUMNS[benchmark.kind]
    write_json(out / RESULTS_FILE, [{name: row["id"], value: row["answer"]} for row in rows])
    kind = "caption" if benchmark.kind == "caption" else "vqa"
    metadata = {
        "results": file_sha256(out / RESULTS_FILE),
        "model": dict(model),
        "prompt": "the image alone" if kind == "caption" else "the image, then `Question: ... Answer:`",
        **made,
        "reply": CLEANED[kind, protocol],
        "two_passes": benchmark.kind == "vizwiz" and protocol == "lavit",
        "versions": versions(),
    }
    write_json(out / GENERATION_FILE, metadata)


def not_scored(benchmark: Benchmark, out: Path) -> dict[str, Any]:
    """Return the content of a score.json that says why there is no metric (a test split)."""
    reason = f"the files hold no answers; submit {RESULTS_FILE} to the benchmark's server ({benchmark.source})"
    generation = {key: said for key, said in read_json(out / GENERATION_FILE).items() if key != "results"}
    return {
        "benchmark": benchmark.name,
        "complete": False,
        "figures": {},
        "skipped": {"score": reason},
        "inputs": {"results": file_sha256(out / RESULTS_FILE)},
        "generation": generation,
    }

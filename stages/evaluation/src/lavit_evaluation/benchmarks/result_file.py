"""The server's result file, and beside it how its answers were made."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lavit_core.files import file_sha256, read_json, write_json
from lavit_core.rundir import versions
from lavit_scoring.catalogue import Benchmark
from lavit_scoring.score_file import GENERATION_FILE

from lavit_evaluation.benchmarks.wording import CLEANED
from lavit_evaluation.model_digests import model_digests

RESULTS_FILE = "results.json"
DECODING_FILE = "reader.json"
"""How the model decodes: known while it is loaded, needed when every answer is made."""

COLUMNS = {
    "vqa": ("question_id", "answer"),
    "vizwiz": ("image", "answer"),
    "gqa": ("questionId", "prediction"),
    "caption": ("image_id", "caption"),
}
"""Names of the columns in each server's result file."""


def write_results(
    benchmark: Benchmark, rows: Iterable[Mapping[str, Any]], out: Path, model: Path, protocol: str
) -> None:
    """Write results.json from rows {id, answer} in their order, and generation.json."""
    name, value = COLUMNS[benchmark.kind]
    write_json(out / RESULTS_FILE, [{name: row["id"], value: row["answer"]} for row in rows])
    kind = "caption" if benchmark.kind == "caption" else "vqa"
    metadata = {
        "results": file_sha256(out / RESULTS_FILE),
        "model": model_digests(model),
        "prompt": "the image alone" if kind == "caption" else "the image, then `Question: ... Answer:`",
        **read_json(out / DECODING_FILE),
        "reply": CLEANED[kind, protocol],
        "two_passes": benchmark.kind == "vizwiz" and protocol == "lavit",
        "versions": versions(),
    }
    write_json(out / GENERATION_FILE, metadata)


def not_scored(benchmark: Benchmark, out: Path) -> dict[str, Any]:
    """Return, and write, a score.json that says why there is no metric (a test split)."""
    reason = f"the files hold no answers; submit {RESULTS_FILE} to the benchmark's server ({benchmark.source})"
    generation = {key: said for key, said in read_json(out / GENERATION_FILE).items() if key != "results"}
    result = {
        "benchmark": benchmark.name,
        "complete": False,
        "figures": {},
        "skipped": {"score": reason},
        "inputs": {"results": file_sha256(out / RESULTS_FILE)},
        "generation": generation,
    }
    write_json(out / "score.json", result)
    return result

"""`lavit eval vqav2` and its kin: ask a model everything, keep every answer, write the server's file, score it."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from lavit_core.config import Config
from lavit_core.errors import Interrupted, UsageError
from lavit_core.files import file_sha256, write_json
from lavit_core.images import square_pixels
from lavit_core.interrupt import stop_signals
from lavit_core.modeldir import find_part
from lavit_core.progress import Progress
from lavit_core.rundir import open_run
from lavit_core.seeds import derive_seed
from lavit_scoring.catalogue import Benchmark
from lavit_scoring.score_file import PROTOCOLS, score_file
from lavit_scoring.task import ScoringTask
from pydantic import Field

from lavit_evaluation.model_digests import model_digests
from lavit_evaluation.running.answer_log import AnswerLog
from lavit_evaluation.running.items import Item, load_material, pictures_digest
from lavit_evaluation.running.reader import Reader, load_reader
from lavit_evaluation.running.result_file import READER_FILE, RESULTS_FILE, not_scored, write_results
from lavit_evaluation.running.wording import ANSWERABLE, cleaner, is_refused
from lavit_evaluation.tables.unpack import official_files

T = TypeVar("T")

ANSWERS_FILE = "answers.jsonl"


class RunConfig(Config):
    """Settings of a benchmark that is run with a model."""

    decoding: Literal["auto", "greedy", "beams"] = "auto"
    """How text is chosen: greedy, beams as in the release (5 for answers, 2 for captions); auto: beams under lavit."""
    max_answer_tokens: int = Field(10, ge=1)
    """Longest answer in text tokens (the release: 10)."""
    max_caption_tokens: int = Field(36, ge=1)
    """Longest caption in text tokens (the release: 36)."""
    limit: int | None = Field(None, ge=1)
    """Only so many items, drawn by the seed; the score is then marked partial."""


def run_benchmark(
    benchmark: Benchmark,
    model: Path,
    data: Path,
    out: Path,
    config: RunConfig,
    *,
    annotations: Path | None = None,
    questions: Path | None = None,
    images: Path | None = None,
    split: str | None = None,
    protocol: str = "official",
    lemmatizer: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
    allow_network: bool = False,
    load: Callable[[], Reader] | None = None,
) -> dict[str, Any]:
    """Run a benchmark into a run directory and return score.json's content; the same call goes on after a kill.

    `data` holds the official files, or is a data set (parquet, save_to_disk; with `allow_network` a name on the hub).
    `load` gives the model in another way than from `model` (tests do). Without official answers (a test split) only
    the result file is written. Raises InputError, UsageError, Interrupted.
    """
    check(benchmark, protocol, lemmatizer)
    if load is None:
        find_part(model, "tokenizer")
        find_part(model, "llm")
    data, split = official_files(benchmark, data, out, split=split, allow_network=allow_network, quiet=quiet)
    material = load_material(benchmark, data, annotations=annotations, questions=questions, images=images, split=split)
    items = draw(material.items, config.limit, seed)
    inputs = {f"model.{part}": digest for part, digest in model_digests(model).items() if part in ("tokenizer", "llm")}
    inputs |= {role: file_sha256(file) for role, file in material.files.items()}
    inputs["pictures"] = pictures_digest(items)
    # How many at once and where they are computed is not part of what was run: a resumed run may change both.
    decoding = config.decoding
    if decoding == "auto":
        decoding = "beams" if protocol == "lavit" else "greedy"
    settings = config.model_dump(mode="json") | {"decoding": decoding, "protocol": protocol}
    settings |= {"lemmatizer": lemmatizer, "split": split, "seed": seed}
    with open_run(out, command=f"eval {benchmark.name}", config=settings, inputs=inputs) as run:
        if run.done is not None:
            return run.done
        with AnswerLog(out / ANSWERS_FILE) as log, stop_signals() as stop:
            if any(item.id not in log.rows for item in items):
                longest = config.max_caption_tokens if benchmark.kind == "caption" else config.max_answer_tokens
                reader = (
                    load()
                    if load is not None
                    else load_reader(model, benchmark.kind, decoding=decoding, max_tokens=longest, device=device)
                )
                write_json(out / READER_FILE, reader.about)
                answer_all(benchmark, items, reader, log, protocol=protocol, batch_size=batch_size, stop=stop,
                           quiet=quiet)  # fmt: skip
            write_results(benchmark, items, log.rows, out, model, protocol)
        if material.has_truth:
            task = ScoringTask(
                results=out / RESULTS_FILE,
                annotations=material.files["annotations"],
                questions=None if config.limit else material.files.get("questions"),
                protocol=protocol,
                lemmatizer=lemmatizer,
                split=split,
                partial=config.limit is not None,
                seed=seed,
            )
            result = score_file(benchmark, task, out)
        else:
            result = not_scored(benchmark, out)
        run.finish(result)
        return result


def check(benchmark: Benchmark, protocol: str, lemmatizer: str | None) -> None:
    """Raise UsageError for a protocol that can't be followed, before anything is read."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"--protocol {protocol}: expected one of {', '.join(PROTOCOLS)}")
    compares_lemmas = protocol == "lavit" and benchmark.kind != "caption"
    if compares_lemmas and lemmatizer in (None, "given"):
        raise UsageError(
            "--protocol lavit compares lemmas, and a model writes words: give --lemmatizer rules (built in, not the "
            "published ones) or a spaCy model directory"
        )
    if lemmatizer is not None and not compares_lemmas:
        raise UsageError(f"--lemmatizer {lemmatizer}: {benchmark.name} under --protocol {protocol} has no lemmas")


def draw(items: list[T], limit: int | None, seed: int) -> list[T]:
    """Return all items, or `limit` of them drawn by the seed, in their own order."""
    if limit is None or limit >= len(items):
        return items
    chosen = np.random.default_rng(derive_seed(seed, "eval limit")).permutation(len(items))[:limit]
    return [items[index] for index in sorted(chosen)]


def answer_all(
    benchmark: Benchmark, items: Sequence[Item], reader: Reader, log: AnswerLog, *, protocol: str, batch_size: int,
    stop: Callable[[], bool], quiet: bool,
) -> None:  # fmt: skip
    """Answer every item that the log lacks, batch by batch; what a batch gave is on disk before the next begins."""
    left = [item for item in items if item.id not in log.rows]
    unit = "caption" if benchmark.kind == "caption" else "question"
    title, done = f"eval {benchmark.name}", len(items) - len(left)
    with Progress(title, len(items), unit=unit, start=done, quiet=quiet) as progress, ThreadPoolExecutor(8) as pool:
        for start in range(0, len(left), batch_size):
            if stop():
                raise Interrupted(f"{title}: stopped after {len(log.rows)} answers; run the same command to go on")
            batch = left[start : start + batch_size]
            log.append(answer_batch(benchmark, batch, reader, protocol, pool))
            progress.advance(len(batch))


def answer_batch(
    benchmark: Benchmark, batch: Sequence[Item], reader: Reader, protocol: str, pool: ThreadPoolExecutor
) -> list[dict[str, Any]]:
    """Return one row {id, answer} an item; a picture of several questions is looked at once."""
    files = list(dict.fromkeys(item.image for item in batch))
    pixels = np.stack(list(pool.map(lambda file: square_pixels(file, reader.image_px), files)))
    place = {file: index for index, file in enumerate(files)}
    pictures = [place[item.image] for item in batch]
    if benchmark.kind == "caption":
        clean = cleaner("caption", protocol)
        written = reader.caption(pixels[pictures])
        return [{"id": item.id, "answer": clean(text)} for item, text in zip(batch, written, strict=True)]
    clean = cleaner("vqa", protocol)
    questions = [item.question or "" for item in batch]
    answers = [clean(text) for text in reader.answer(pixels, pictures, questions)]
    rows = [{"id": item.id, "answer": text} for item, text in zip(batch, answers, strict=True)]
    if benchmark.kind == "vizwiz" and protocol == "lavit":
        replies = reader.answer(pixels, pictures, [ANSWERABLE.format(question) for question in questions])
        for row, reply in zip(rows, replies, strict=True):
            row |= {"answerable": reply} | ({"answer": "unanswerable"} if is_refused(reply) else {})
    return rows

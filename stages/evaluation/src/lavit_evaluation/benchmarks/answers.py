"""`lavit eval vqav2` and its kin: ask a model everything, write the server's result file, score it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lavit_core.config import Config
from lavit_core.errors import UsageError
from lavit_core.files import file_sha256
from lavit_core.images import square_pixels
from lavit_scoring import Benchmark, ScoringTask, score_file
from lavit_scoring.scorers import check_protocol
from pydantic import Field

from lavit_evaluation.benchmarks.items import Item, images_digest, load_items, sample_items
from lavit_evaluation.benchmarks.result_file import RESULTS_FILE, not_scored, write_results
from lavit_evaluation.benchmarks.wording import ANSWERABLE, cleaner, is_refused
from lavit_evaluation.compute import Compute
from lavit_evaluation.evaluation_session import evaluation_session
from lavit_evaluation.model import (
    DECODING_FILE,
    TextDecoding,
    find_parts,
    keep_record,
    model_digests,
    open_model,
    reading_record,
    text_decoding,
)
from lavit_evaluation.options import QuestionFiles
from lavit_evaluation.stores import AnswerLog
from lavit_evaluation.tables.unpack import official_files

if TYPE_CHECKING:
    from lavit import LaVIT

ANSWERS_FILE = "answers.jsonl"
PARTS = ("tokenizer", "llm")


class AnswerConfig(Config):
    """Settings of a benchmark of questions or captions."""

    decoding: Literal["auto", "greedy", "beams"] = "auto"
    """How text is chosen: greedy, beams as in the release (5 for answers, 2 for captions); auto: beams under lavit."""
    max_answer_tokens: int = Field(10, ge=1)
    """Longest answer in text tokens (the release: 10)."""
    max_caption_tokens: int = Field(36, ge=1)
    """Longest caption in text tokens (the release: 36)."""
    limit: int | None = Field(None, ge=1)
    """Only so many items, drawn by the seed; the score is then marked partial."""


def run_answers(
    benchmark: Benchmark, model: "Path | LaVIT", files: QuestionFiles, out: Path, config: AnswerConfig, *,
    protocol: str = "official", lemmatizer: str | None = None, seed: int = 0, compute: Compute = Compute(),
) -> dict[str, Any]:  # fmt: skip
    """Run a benchmark into a run directory and return score.json's content; the same call goes on after a kill.

    `files.data` holds the official files, or is a data set (parquet, save_to_disk; with `allow_network` a name on the
    hub). Without official answers (a test split) only the result file is written. Raises InputError, UsageError,
    Interrupted.
    """
    check(benchmark, protocol, lemmatizer)
    inputs = find_parts(model, PARTS)
    data, split = official_files(benchmark, files.data, out, split=files.split, allow_network=files.allow_network,
                                 quiet=compute.quiet)  # fmt: skip
    loaded = load_items(
        benchmark, data, annotations=files.annotations, questions=files.questions, images=files.images, split=split
    )
    items = sample_items(loaded.items, config.limit, seed)
    inputs |= {role: file_sha256(file) for role, file in loaded.files.items()}
    inputs["pictures"] = images_digest(items)
    decoding = config.decoding
    if decoding == "auto":
        decoding = "beams" if protocol == "lavit" else "greedy"
    settings = config.model_dump(mode="json") | {"decoding": decoding, "protocol": protocol}
    settings |= {"lemmatizer": lemmatizer, "split": split, "precision": compute.precision, "seed": seed}

    with evaluation_session(
        out, command=f"eval {benchmark.name}", settings=settings, inputs=inputs, quiet=compute.quiet
    ) as session:
        if session.finished:
            return session.finished
        lavit = open_model(model, PARTS, compute)
        longest = config.max_caption_tokens if benchmark.kind == "caption" else config.max_answer_tokens
        text = text_decoding(benchmark.kind, decoding, longest)
        made = keep_record(out, DECODING_FILE, lambda: {"decoding": text.description, **reading_record(lavit)})
        with ThreadPoolExecutor(8) as pool:
            rows = session.ask(
                {item.id: item for item in items},
                lambda batch: answer_batch(benchmark, batch, lavit, text, protocol, pool),
                AnswerLog(out / ANSWERS_FILE),
                batch_size=compute.batch_size,
                unit="caption" if benchmark.kind == "caption" else "question",
            )
        write_results(benchmark, rows, out, model_digests(model), made, protocol)
        if not loaded.has_truth:
            return session.finish(not_scored(benchmark, out))
        task = ScoringTask(
            results=out / RESULTS_FILE,
            annotations=loaded.files["annotations"],
            questions=None if config.limit else loaded.files.get("questions"),
            protocol=protocol,
            lemmatizer=lemmatizer,
            split=split,
            partial=config.limit is not None,
            seed=seed,
        )
        return session.finish(score_file(benchmark, task, out))


def check(benchmark: Benchmark, protocol: str, lemmatizer: str | None) -> None:
    """Raise UsageError for a protocol that can't be followed, before anything is read."""
    if check_protocol(benchmark, protocol, lemmatizer) and lemmatizer in (None, "given"):
        raise UsageError(
            "--protocol lavit compares lemmas, and a model writes words: give --lemmatizer rules (built in, not the "
            "published ones) or a spaCy model directory"
        )


def answer_batch(
    benchmark: Benchmark, batch: Sequence[Item], model: "LaVIT", text: TextDecoding, protocol: str,
    pool: ThreadPoolExecutor,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return {answer} of each item; an image with several questions is read once."""
    files = list(dict.fromkeys(item.image for item in batch))
    by_file = dict(zip(files, pool.map(lambda file: square_pixels(file, model.image_px), files), strict=True))
    images = [by_file[item.image] for item in batch]
    if benchmark.kind == "caption":
        captions = model.caption(images, max_tokens=text.max_tokens, beams=text.beams)
        return [{"answer": cleaner("caption", protocol)(caption)} for caption in captions]

    def answers(questions: Sequence[str]) -> list[str]:
        return model.answer(images, questions, max_tokens=text.max_tokens, beams=text.beams)

    questions = [item.question or "" for item in batch]
    rows = [{"answer": cleaner("vqa", protocol)(reply)} for reply in answers(questions)]
    if benchmark.kind == "vizwiz" and protocol == "lavit":
        replies = answers([ANSWERABLE.format(question) for question in questions])
        for row, reply in zip(rows, replies, strict=True):
            row |= {"answerable": reply} | ({"answer": "unanswerable"} if is_refused(reply) else {})
    return rows

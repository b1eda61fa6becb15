"""`lavit eval shapes`: tokens, questions, captions, reconstructions and drawings from prompts on held-out pictures."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lavit_core.data import Data, open_data
from lavit_core.errors import InputError, Interrupted
from lavit_core.files import file_sha256, write_json
from lavit_core.interrupt import stop_signals
from lavit_core.progress import Progress
from lavit_core.rundir import open_run
from lavit_core.tokens import check_tokenizer, open_tokens
from lavit_scoring.score import Score

from lavit_evaluation.config import ShapesConfig
from lavit_evaluation.model_digests import model_digests
from lavit_evaluation.samples import write_samples
from lavit_evaluation.shapes.heldout import Heldout, open_heldout, scenes_digest
from lavit_evaluation.shapes.sections import (
    Batches,
    Section,
    captions_section,
    encode_pictures,
    generation_section,
    random_section,
    real_section,
    reconstruction_section,
    shown_section,
    tokens_section,
    vqa_section,
)
from lavit_evaluation.shapes.subject import Encoded, Subject, select
from lavit_evaluation.shapes.tokens_report import corpus_figures

PROTOCOL, VERSION = "lavit-shapes", 1


def eval_shapes(
    model: Path,
    data: Path,
    out: Path,
    config: ShapesConfig,
    *,
    blind: Path | None = None,
    tokens: Path | None = None,
    train_data: Path | None = None,
    load: Callable[[], Subject] | None = None,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Evaluate a model on held-out data, write score.json and samples into `out`, and return score.json's content.

    `load` gives the model in another way than from `model` (tests do). Raises InputError, UsageError, Interrupted.
    """
    source, training = open_data(data), None if train_data is None else open_data(train_data)
    reader = None if tokens is None else open_tokens(tokens)
    if reader is not None:
        check_tokenizer(reader, model)
    inputs = _digests(model, blind, source, training, tokens)
    settings = {**config.model_dump(mode="json"), "seed": seed}
    if (out / "DONE").exists():
        with open_run(out, command="eval shapes", config=settings, inputs=inputs) as run:
            known = run.done or {}
            if not (out / "score.json").exists():
                write_json(out / "score.json", known)  # DONE holds the same: nothing is computed again
            return known
    # Before the run directory exists: what is wrong with the inputs must not bind it to them.
    subject = load() if load is not None else _load(model, blind, config, device)
    heldout = open_heldout(
        source,
        image_px=subject.image_px,
        num_pictures=config.pictures,
        num_token_pictures=config.token_pictures,
        num_questions=config.questions,
        seed=seed,
    )
    with open_run(out, command="eval shapes", config=settings, inputs=inputs) as run, stop_signals() as stop:
        score = Score(protocol=PROTOCOL, version=VERSION)
        with Progress("eval shapes", _num_items(subject, heldout, config), unit="item", quiet=quiet) as progress:
            batches = _batches(config.batch_size, progress, stop)
            samples = _run_sections(subject, heldout, training, config, seed, batches, score)
        if reader is not None:
            score.metrics |= corpus_figures(reader)
        write_samples(run.path, samples)
        about = {
            "inputs": inputs,
            "data": {"path": str(data), "pictures": len(heldout.keys), "questions": len(heldout.questions)},
            "settings": settings,
        }
        result = score.as_json(about)
        write_json(run.path / "score.json", result)
        run.finish(result)
        return result


def _digests(
    model: Path, blind: Path | None, source: Data, training: Data | None, tokens: Path | None
) -> dict[str, str]:
    """Return the SHA-256 of everything the figures depend on."""
    digests = {f"model.{part}": digest for part, digest in model_digests(model).items()}
    digests |= {"data": source.digest, "scenes": scenes_digest(source)}
    if blind is not None:
        digests |= {f"blind.{part}": digest for part, digest in model_digests(blind).items()}
    if training is not None:
        digests["train_data"] = training.digest
    if tokens is not None:
        digests["tokens"] = file_sha256(tokens / "manifest.json")
    return digests


def _run_sections(
    subject: Subject,
    heldout: Heldout,
    training: Data | None,
    config: ShapesConfig,
    seed: int,
    batches: Batches,
    score: Score,
) -> dict[str, list[dict[str, Any]]]:
    """Run every section the model and the data allow, and note why the others were left out."""
    no_tokenizer = None if subject.encode else "the model holds no tokenizer"
    no_llm = None if subject.answer else "the model holds no language model"
    no_drawing = None if subject.draw else "the model holds no tokenizer and detokenizer"
    no_scenes = None if heldout.scenes else "not scored: the data has no scenes.jsonl that says what its pictures show"
    no_questions = None if heldout.questions else "the data has no questions.jsonl, or none were asked for"
    union = sorted({*heldout.keys, *heldout.token_keys})
    encoded = encode_pictures(subject, heldout, union, batches) if subject.encode else None

    def of(keys: Sequence[str]) -> Encoded:
        assert encoded is not None
        where = {key: index for index, key in enumerate(union)}
        return select(encoded, [where[key] for key in keys])

    plan: list[tuple[str, str | None, Callable[[], Section]]] = [
        ("tokens", no_tokenizer, lambda: tokens_section(subject, heldout, of(heldout.token_keys))),
        ("questions", no_llm or no_questions, lambda: vqa_section(subject, heldout, training, config, batches)),
        ("captions", no_llm or no_scenes, lambda: captions_section(subject, heldout, config, batches)),
        ("real", no_scenes, lambda: real_section(heldout)),
        ("reconstruction", no_drawing,
         lambda: reconstruction_section(subject, heldout, of(heldout.keys), config, seed, batches)),
        ("generation", no_llm or no_drawing or no_scenes,
         lambda: generation_section(subject, heldout, config, seed, batches)),
        ("random", no_drawing or no_scenes or (None if config.random_pictures else "random_pictures is 0"),
         lambda: random_section(subject, heldout, [len(c) for c in of(heldout.keys).codes], config, seed, batches)),
    ]  # fmt: skip
    if subject.answer_blind is None:
        score.skipped["blind"] = "no --blind model was given: how much the pictures help is not known"
    samples: dict[str, list[dict[str, Any]]] = {}
    if no_scenes:
        samples |= shown_section(subject, heldout, config, seed, batches).samples
    for name, reason, run_section in plan:
        if reason is not None:
            score.skipped[name] = reason
            continue
        began = time.monotonic()
        section = run_section()
        score.seconds[name] = time.monotonic() - began
        score.metrics |= section.figures
        score.notes |= section.notes
        samples |= section.samples
    return samples


def _load(model: Path, blind: Path | None, config: ShapesConfig, device: str) -> Subject:
    from lavit_evaluation.shapes.load_subject import load_subject

    try:
        return load_subject(model, blind, config, device=device)
    except ModuleNotFoundError as error:
        stage = (error.name or "").partition(".")[0]
        if not stage.startswith("lavit_"):
            raise
        distribution = stage.replace("_", "-")
        raise InputError(
            f"eval shapes needs {distribution} to run {model}, which is not installed; "
            "run `pip install -r stages/workspace.txt`"
        ) from None


def _batches(size: int, progress: Progress, stop: Callable[[], bool]) -> Batches:
    def batches(function: Callable[..., Sequence[Any]], *inputs: Any) -> list[Any]:
        results: list[Any] = []
        for start in range(0, len(inputs[0]), size):
            if stop():
                raise Interrupted("eval shapes: stopped; run the same command to start over")
            results.extend(function(*(one[start : start + size] for one in inputs)))
            progress.advance(len(inputs[0][start : start + size]))
        return results

    return batches


def _num_items(subject: Subject, heldout: Heldout, config: ShapesConfig) -> int:
    """Return how many pictures, questions, captions and prompts will pass through `batches`."""
    scenes = bool(heldout.scenes)
    pictures = len(heldout.keys)
    shown = pictures if scenes else min(config.samples, pictures)
    total = len({*heldout.keys, *heldout.token_keys}) if subject.encode else 0
    if subject.answer:
        total += len(heldout.questions) + shown
    if subject.answer_blind:
        total += len({question.question for question in heldout.questions})
    if subject.draw:
        total += pictures + min(config.random_pictures, pictures) * scenes
        total += shown * (2 if config.best_of == 1 or not scenes else 3 * config.best_of) if subject.sample else 0
    return total

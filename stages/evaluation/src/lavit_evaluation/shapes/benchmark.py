"""`lavit eval shapes`: tokens, questions, captions, reconstructions and drawings from prompts on held-out images."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_core.data import Data, Source, open_data
from lavit_core.errors import InputError
from lavit_core.files import file_sha256
from lavit_core.tokens import check_tokenizer, open_tokens
from lavit_scoring.score import Score

from lavit_evaluation.compute import Compute
from lavit_evaluation.config import ShapesConfig
from lavit_evaluation.evaluation_session import evaluation_session, is_finished
from lavit_evaluation.model import model_digests, open_model
from lavit_evaluation.samples import write_samples
from lavit_evaluation.shapes.heldout import open_heldout, scenes_digest
from lavit_evaluation.shapes.sections import (
    Material,
    Section,
    captions_section,
    encode_images,
    generation_section,
    photo_samples,
    random_section,
    real_section,
    reconstruction_section,
    tokens_section,
    vqa_section,
)
from lavit_evaluation.shapes.tokens_report import corpus_metrics

if TYPE_CHECKING:
    from lavit import LaVIT

PROTOCOL, VERSION = "lavit-shapes", 1


def eval_shapes(
    model: "Path | LaVIT", data: Path | Source, out: Path, config: ShapesConfig, *, blind: "Path | LaVIT | None" = None,
    tokens: Path | None = None, train_data: Path | Source | None = None, seed: int = 0, compute: Compute = Compute(),
) -> dict[str, Any]:  # fmt: skip
    """Evaluate a model on held-out data, write score.json and samples into `out`, and return score.json's content.

    `blind` is a model that was trained without images. Raises InputError, UsageError, Interrupted.
    """
    source, training = open_data(data), None if train_data is None else open_data(train_data)
    reader = None if tokens is None else open_tokens(tokens)
    if reader is not None and isinstance(model, Path):
        check_tokenizer(reader, model)
    elif reader is not None and reader.manifest.tokenizer_digest != model_digests(model).get("tokenizer"):
        raise InputError(f"{tokens}: made with another tokenizer than the open model's; tokenize the images with it")
    inputs = _digests(model, blind, source, training, tokens)
    settings = {**config.model_dump(mode="json"), "precision": compute.precision, "seed": seed}

    # Before the run directory exists: what is wrong with the inputs must not bind it to them.
    ready = {} if is_finished(out) else _open_all(model, blind, source, config, seed, compute)
    with evaluation_session(
        out, command="eval shapes", settings=settings, inputs=inputs, quiet=compute.quiet
    ) as session:
        if session.finished:
            return session.finished
        material = Material(**ready, training=training, config=config, seed=seed, session=session)
        score = Score(protocol=PROTOCOL, version=VERSION)
        samples = _run_sections(material, score)
        if reader is not None:
            score.metrics |= corpus_metrics(reader)
        write_samples(out, samples)
        counts = {"pictures": len(material.heldout.keys), "questions": len(material.heldout.questions)}
        result = score.as_json({"inputs": inputs, "data": {"path": str(data), **counts}, "settings": settings})
        return session.finish(result)


def _open_all(
    model: "Path | LaVIT", blind: "Path | LaVIT | None", source: Data, config: ShapesConfig, seed: int, compute: Compute
) -> dict[str, Any]:
    """Return the models and the held-out data, as `Material` names them."""
    lavit = open_model(model, None, compute, selection=config.selection)
    heldout = open_heldout(
        source, image_px=lavit.image_px, num_images=config.pictures, num_token_images=config.token_pictures,
        num_questions=config.questions, seed=seed,
    )  # fmt: skip
    return {"model": lavit, "heldout": heldout, "blind": None if blind is None else open_blind(blind, compute)}


def open_blind(blind: "Path | LaVIT", compute: Compute) -> "LaVIT":
    """Open the model that answers without images. Raises InputError if it was trained with images."""
    model = open_model(blind, ("llm",), compute)
    if model.image_input != "none":
        raise InputError(
            f"--no-images-model {blind}: this model was trained with image input {model.image_input!r}, expected "
            "'none'; train one with `lavit pretrain --image-input none`"
        )
    return model


def _digests(
    model: "Path | LaVIT", blind: "Path | LaVIT | None", source: Data, training: Data | None, tokens: Path | None
) -> dict[str, str]:
    """Return the SHA-256 of everything the metrics depend on."""
    digests = {f"model.{part}": digest for part, digest in model_digests(model).items()}
    digests |= {"data": source.digest, "scenes": scenes_digest(source)}
    if blind is not None:
        digests |= {f"blind.{part}": digest for part, digest in model_digests(blind).items()}
    if training is not None:
        digests["train_data"] = training.digest
    if tokens is not None:
        digests["tokens"] = file_sha256(tokens / "manifest.json")
    return digests


def _run_sections(material: Material, score: Score) -> dict[str, list[dict[str, Any]]]:
    """Run every section that model and data allow, and note why the others were left out; return the samples."""
    heldout, parts = material.heldout, material.model.metadata["model"]
    no_llm = None if "llm" in parts else "the model holds no language model"
    no_drawing = None if "detokenizer" in parts else "the model holds no tokenizer and detokenizer"
    no_scenes = None if heldout.scenes else "not scored: the data has no scenes.jsonl that says what its images show"
    no_questions = None if heldout.questions else "the data has no questions.jsonl, or none were asked for"
    no_random = None if material.config.random_pictures else "random_pictures is 0"
    encoded = encode_images(material, sorted({*heldout.keys, *heldout.token_keys}))
    plan: list[tuple[str, str | None, Callable[[], Section]]] = [
        ("tokens", None, lambda: tokens_section(material, encoded)),
        ("questions", no_llm or no_questions, lambda: vqa_section(material)),
        ("captions", no_llm or no_scenes, lambda: captions_section(material)),
        ("real", no_scenes, lambda: real_section(material)),
        ("reconstruction", no_drawing, lambda: reconstruction_section(material, encoded)),
        ("generation", no_llm or no_drawing or no_scenes, lambda: generation_section(material)),
        ("random", no_drawing or no_scenes or no_random, lambda: random_section(material, encoded)),
    ]
    if material.blind is None:
        score.skipped["blind"] = "no --no-images-model was given: how much the images help is not known"
    samples: dict[str, list[dict[str, Any]]] = {}
    if no_scenes:
        samples |= photo_samples(material, can_read=no_llm is None, can_draw=no_drawing is None)
    for name, reason, run_section in plan:
        if reason is not None:
            score.skipped[name] = reason
            continue
        began = time.monotonic()
        section = run_section()
        score.seconds[name] = time.monotonic() - began
        score.metrics |= section.metrics
        score.notes |= section.notes
        samples |= section.samples
    return samples

"""`lavit eval tokenizer --drawn FOLDER --codes FILE`: any tokenizer's output, measured as a model of ours is."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.data import Source, open_data
from lavit_core.errors import UsageError
from lavit_core.files import file_sha256
from lavit_scoring.bootstrap import bootstrap_mean
from lavit_scoring.score import Score

from lavit_evaluation.compute import Compute
from lavit_evaluation.config import EvalTokenizerConfig
from lavit_evaluation.evaluation_session import evaluation_session
from lavit_evaluation.options import ReconstructionWeights
from lavit_evaluation.shapes.heldout import read_pixels
from lavit_evaluation.token_metrics import code_metrics, count_metrics
from lavit_evaluation.tokenizing.foreign import find_reconstructions, read_codes, read_reconstructions
from lavit_evaluation.tokenizing.measure import PROTOCOL, VERSION, measure_reconstructions, write_items
from lavit_evaluation.tokenizing.networks import open_networks
from lavit_evaluation.tokenizing.reference import choose_reference

NO_MODEL = "no model was given"


def eval_foreign(
    data: Path | Source, out: Path | None, config: EvalTokenizerConfig, *, drawn: Path | None = None,
    codes: Path | None = None, codebook_size: int | None = None,
    weights: ReconstructionWeights = ReconstructionWeights(), seed: int = 0, compute: Compute = Compute(),
) -> dict[str, Any]:  # fmt: skip
    """Measure reconstructions and codes that another program wrote; return score.json's content, written into `out`.

    Raises InputError, UsageError, VerificationError, Interrupted.
    """
    if drawn is None and codes is None:
        raise UsageError("nothing to evaluate: give --model DIR, or another tokenizer's --drawn FOLDER or --codes FILE")
    if (codes is None) != (codebook_size is None):
        raise UsageError("--codes FILE and --codebook-size K go together: bits and usage depend on both")
    if config.probe:
        raise UsageError("probe: a linear probe needs the features of a --model")
    source = open_data(data)
    reference = choose_reference(source, config, seed)
    networks = open_networks(weights, config, device=compute.device)
    inputs = {"data": source.digest, **networks.digests}
    # Before the run directory exists: what is wrong with the inputs must not bind it to them.
    files = [] if drawn is None else find_reconstructions(drawn, reference.drawn, [one.key for one in source.records])
    if drawn is not None:
        inputs["reconstructions"] = _content_digest(files)
    read = None if codes is None else read_codes(codes, reference.keys, codebook_size or 0)
    if codes is not None:
        inputs["codes"] = file_sha256(codes)
    settings = {**config.model_dump(mode="json"), "codebook_size": codebook_size, "seed": seed}
    with evaluation_session(
        out, command="eval tokenizer", settings=settings, inputs=inputs, quiet=compute.quiet
    ) as session:
        if session.finished:
            return session.finished
        score = Score(protocol=PROTOCOL, version=VERSION)
        began = time.monotonic()
        if read is None:
            score.skipped["tokens"] = "no codes given (--codes FILE --codebook-size K)"
        else:
            _add_codes(score, read, reference.keys, codebook_size or 0, seed)
        image_px = None
        if not files:
            score.skipped["reconstruction"] = "no reconstructions given (--drawn FOLDER)"
        else:
            images = read_reconstructions(files, config.compare_px)
            image_px = images.shape[1]
            real = read_pixels(source, reference.drawn, image_px)
            columns = measure_reconstructions(
                score, session, images, real, reference.drawn, grid=None, networks=networks, seed=seed
            )
            write_items(session, reference.drawn, columns)
        score.skipped["selection"] = score.skipped["probe"] = NO_MODEL
        score.seconds["score"] = time.monotonic() - began
        described = {"path": str(data), "images": len(reference.keys), "reconstructions": len(files)}
        metadata = {"inputs": inputs, "data": described, "reference": reference.as_json(image_px)}
        return session.finish(score.as_json({**metadata, "networks": networks.digests, "settings": settings}))


def _content_digest(files: Sequence[Path]) -> str:
    """Return the SHA-256 of what is in the files, in their order: sizes alone are the same for images drawn again."""
    return hashlib.sha256("".join(f"{file_sha256(file)}\n" for file in files).encode()).hexdigest()


def _add_codes(score: Score, codes: list[np.ndarray], keys: list[str], codebook_size: int, seed: int) -> None:
    counts = np.array([len(own) for own in codes])
    score.metrics |= count_metrics(counts.tolist(), (1, int(counts.max())))
    del score.metrics["tokens.patches"]  # of a foreign tokenizer, which has none that are known
    for name, values in (("kept", counts), ("bits", counts * np.log2(codebook_size))):
        score.metrics[f"tokens.{name}"] = bootstrap_mean(values, keys, seed, f"tokens.{name}")
    score.metrics |= code_metrics("tokens", np.bincount(np.concatenate(codes), minlength=codebook_size))

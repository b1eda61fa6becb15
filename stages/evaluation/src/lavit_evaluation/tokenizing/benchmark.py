"""`lavit eval tokenizer`: what a tokenizer keeps, what it loses, and how its tokens are drawn, without labels."""

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit_core.data import Source, open_data
from lavit_core.images import resize_to_square
from lavit_scoring import Estimate
from lavit_scoring.score import Score
from PIL import Image

from lavit_evaluation.compute import Compute
from lavit_evaluation.config import EvalTokenizerConfig, ProbeConfig
from lavit_evaluation.evaluation_session import evaluation_session
from lavit_evaluation.model import find_parts, model_digests, open_model
from lavit_evaluation.options import ReconstructionWeights
from lavit_evaluation.probing.probe import check_labels, eval_probe, label_digests
from lavit_evaluation.samples import write_samples
from lavit_evaluation.token_warnings import note_findings
from lavit_evaluation.tokenizing.job import Job, draw_all, tokenize_all
from lavit_evaluation.tokenizing.masks import kept_by_cover, read_covers
from lavit_evaluation.tokenizing.measure import PROTOCOL, VERSION, measure_reconstructions, write_items
from lavit_evaluation.tokenizing.metrics import add_selection, add_tokens
from lavit_evaluation.tokenizing.networks import Networks, open_networks
from lavit_evaluation.tokenizing.reference import choose_reference
from lavit_evaluation.tokenizing.tokenize import TokenizedImage

if TYPE_CHECKING:
    from lavit import LaVIT
    from lavit_tokenizer.api import TokenFacts, TokenizerConfig

PROBE = ProbeConfig.model_validate({})
"""Settings of the probes that are fitted beside."""


def eval_tokenizer(
    model: "Path | LaVIT", data: Path | Source, out: Path | None, config: EvalTokenizerConfig, *,
    masks: Path | None = None, weights: ReconstructionWeights = ReconstructionWeights(), seed: int = 0,
    compute: Compute = Compute(),
) -> dict[str, Any]:  # fmt: skip
    """Evaluate the tokenizer of a model on the images of `data`, and return score.json's content, written into `out`.

    `masks` is a folder with an object mask for each image, `weights` are of the networks that compare reconstructions.
    Raises InputError, UsageError, VerificationError, Interrupted.
    """
    source = open_data(data)
    digests = find_parts(model, ("tokenizer",))
    parts = [part for part in ("tokenizer", "detokenizer") if part in model_digests(model)]
    lavit = open_model(model, parts, compute, selection=config.selection, tokens=config.tokens)
    reference = choose_reference(source, config, seed)
    keys = reference.keys
    networks = open_networks(weights, config, device=compute.device)
    inputs = {**digests, **find_parts(model, parts), "data": source.digest, **networks.digests}
    # Before the run directory exists: what is wrong with the inputs must not bind it to them.
    covers = None if masks is None else read_covers(masks, keys, lavit.image_px, lavit.grid)
    if covers is not None:
        inputs["masks"] = hashlib.sha256(covers.tobytes()).hexdigest()
    if config.probe:
        check_labels(source, PROBE, seed)
        inputs |= label_digests(source)
    settings = {**config.model_dump(mode="json"), "precision": compute.precision, "seed": seed}
    with evaluation_session(
        out, command="eval tokenizer", settings=settings, inputs=inputs, quiet=compute.quiet
    ) as session:
        if session.finished:
            return session.finished
        score = Score(protocol=PROTOCOL, version=VERSION)
        job = Job(model=lavit, data=source, keys=keys, decoding=config, seed=seed, session=session)
        began = time.monotonic()
        images = tokenize_all(job)
        add_tokens(score, images, keys, grid=lavit.grid, codebook_size=lavit.codebook_size, seed=seed)
        add_selection(score, images, seed)
        if covers is not None:
            score.metrics |= kept_by_cover(np.stack([image.keep_mask for image in images]), covers)
        score.seconds["tokens"] = time.monotonic() - began
        began = time.monotonic()
        can_draw = "detokenizer" in parts and bool(reference.drawn)
        image_px = None
        if can_draw:
            image_px = _reconstruct(job, score, images, config, reference.drawn, networks)
        else:
            no_part = "detokenizer" not in parts
            score.skipped["reconstruction"] = "no detokenizer" if no_part else "no reconstructions were asked for"
            _write_samples(job, images, None, most=config.samples)
        score.seconds["reconstruction"] = time.monotonic() - began
        if config.probe:
            add_probe(score, model, data, out, seed=seed, compute=compute)
        counts = [len(image.codes) for image in images]
        score.notes |= {"kept_histogram": np.bincount(counts).tolist(), "grid": list(lavit.grid)}
        note_findings(score, _facts(score, images, lavit.tokenizer.config))
        described = {"path": str(data), "images": len(keys), "reconstructions": len(reference.drawn) * can_draw}
        metadata = {"inputs": inputs, "data": described, "reference": reference.as_json(image_px)}
        return session.finish(score.as_json({**metadata, "networks": networks.digests, "settings": settings}))


def _reconstruct(
    job: Job, score: Score, images: list[TokenizedImage], config: EvalTokenizerConfig, keys: list[str],
    networks: Networks,
) -> int:  # fmt: skip
    """Draw images from their tokens and score them; return the side in pixels at which they are compared."""
    by_key = dict(zip(job.keys, images, strict=True))
    drawn = draw_all(job, {key: (key, by_key[key].codes) for key in keys}, "reconstruction")
    if config.compare_px is not None and config.compare_px != drawn.shape[1]:
        drawn = np.stack([resize_to_square(Image.fromarray(one), config.compare_px) for one in drawn])
    real = job.pixels(keys, drawn.shape[1])
    columns = measure_reconstructions(
        score, job.session, drawn, real, keys, grid=job.model.grid, networks=networks, seed=job.seed
    )
    write_items(job.session, keys, columns)
    pairs = dict(zip(keys, zip(real, drawn, columns["psnr_db"], strict=True), strict=True))
    _write_samples(job, images, pairs, most=config.samples)
    return int(drawn.shape[1])


def add_probe(
    score: Score, model: "Path | LaVIT", data: Path | Source, out: Path | None, *, seed: int, compute: Compute
) -> None:
    """Add `probe.*`: what linear probes find (`lavit eval probe`), with a run directory of its own in `out`."""
    found = eval_probe(model, data, None if out is None else out / "probe", PROBE, seed=seed, compute=compute)
    for name, metric in found["figures"].items():
        score.metrics[name] = Estimate(metric["value"], metric["low"], metric["high"], metric["count"])
    score.skipped |= found["skipped"]
    score.notes |= {"probe": {"labels": found["notes"]["labels"], "inputs": found["inputs"], "data": found["data"]}}


def _write_samples(
    job: Job, images: list[TokenizedImage], drawn: dict[str, tuple[Any, ...]] | None, *, most: int
) -> None:
    """Write the first images with their kept patches, and with their reconstruction where they were drawn."""
    if job.session.run is None:
        return
    rows: list[dict[str, Any]] = []
    by_key = dict(zip(job.keys, images, strict=True))
    for key in list(job.keys if drawn is None else drawn)[:most]:
        row: dict[str, Any] = {
            "key": key, "kept": by_key[key].keep_mask.astype(int).tolist(), "grid": list(job.model.grid)
        }  # fmt: skip
        if drawn is None:
            row["original"] = job.pixels([key], job.model.image_px)[0]
        else:
            row["original"], row["picture"], ratio = drawn[key]
            row["psnr_db"] = round(float(ratio), 2)
        rows.append(row)
    write_samples(job.session.run.path, {"reconstruction": rows})


def _facts(score: Score, images: list[TokenizedImage], shape: "TokenizerConfig") -> "TokenFacts":
    """Return what is known about the tokens, and about seams where images were drawn."""
    from lavit_tokenizer.api import facts_of

    codes = np.bincount(np.concatenate([image.codes for image in images]), minlength=shape.codebook_size)
    keep, detail = np.stack([image.keep_mask for image in images]), np.stack([image.detail for image in images])
    facts = facts_of(keep, detail, codes, shape.codebook_factors)
    ratios = [score.metrics.get(f"reconstruction.{name}") for name in ("seam_ratio", "seam_ratio_originals")]
    drawn, real = (None if ratio is None else ratio.value for ratio in ratios)
    return dataclasses.replace(facts, seam_ratio=drawn, seam_ratio_originals=real)

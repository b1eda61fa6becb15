"""`lavit eval rate-distortion`: error against tokens an image, for three ways to choose the same number of patches.

Letters: N images, P patches.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit_core.data import Source, open_data
from lavit_scoring.metrics.pixels import WINDOW, psnr, ssim
from lavit_scoring.score import Score

from lavit_evaluation.compute import Compute
from lavit_evaluation.config import RateDistortionConfig
from lavit_evaluation.evaluation_session import evaluation_session
from lavit_evaluation.model import find_parts, model_digests, open_model
from lavit_evaluation.shapes.heldout import choose_images
from lavit_evaluation.tokenizing.job import Job, draw_all, tokenize_all
from lavit_evaluation.tokenizing.metrics import add_by_image
from lavit_evaluation.tokenizing.rates import METHODS, OWN, check_rates, masks_at
from lavit_evaluation.tokenizing.tokenize import TokenizedImage, tokenize_kept

if TYPE_CHECKING:
    from lavit import LaVIT

PROTOCOL, VERSION = "lavit-rate-distortion", 1

Values = dict[str, dict[str, float]]
"""Metric -> image key -> value."""


def eval_rate_distortion(
    model: "Path | LaVIT", data: Path | Source, out: Path | None, config: RateDistortionConfig, *, seed: int = 0,
    compute: Compute = Compute(),
) -> dict[str, Any]:  # fmt: skip
    """Measure what each number of tokens an image loses, and return score.json's content, written into `out`.

    Every selection is held against the others on the same images, drawn from the same noise.
    Raises InputError, UsageError, Interrupted.
    """
    source = open_data(data)
    digests = find_parts(model, ("tokenizer",))
    parts = [part for part in ("tokenizer", "detokenizer") if part in model_digests(model)]
    lavit = open_model(model, parts, compute)
    # Before the run directory exists: what is wrong with the inputs must not bind it to them.
    check_rates(config.tokens, lavit.grid[0] * lavit.grid[1])
    keys = choose_images(source, {}, config.images, seed)
    inputs = {**digests, **find_parts(model, parts), "data": source.digest}
    settings = {**config.model_dump(mode="json"), "precision": compute.precision, "seed": seed}
    with evaluation_session(
        out, command="eval rate-distortion", settings=settings, inputs=inputs, quiet=compute.quiet
    ) as session:
        if session.finished:
            return session.finished
        began, score = time.monotonic(), Score(protocol=PROTOCOL, version=VERSION)
        job = Job(model=lavit, data=source, keys=keys, decoding=config, seed=seed, session=session)
        masks = _masks(job, tokenize_all(job, selection="threshold"), config.tokens)
        codes, values = _tokenize(job, masks)
        if not values[f"learned.{OWN}"]["feature_error"]:
            score.skipped["feature_error"] = "the tokenizer has no feature decoder"
        drawn_keys = job.chosen(config.reconstructions) if "detokenizer" in parts else []
        if drawn_keys:
            for name, own in codes.items():
                values[name] |= _drawn(job, {key: own[key] for key in drawn_keys}, name)
        else:
            asked = "no reconstructions were asked for" if "detokenizer" in parts else "no detokenizer"
            score.skipped["reconstruction"] = asked
        for name, metrics in values.items():
            add_by_image(score, name, metrics, seed)
        _add_differences(score, values, seed)
        score.notes |= {"methods": dict(METHODS), "grid": list(lavit.grid), "codebook_size": lavit.codebook_size}
        score.seconds["all"] = time.monotonic() - began
        described = {"path": str(data), "images": len(keys), "reconstructions": len(drawn_keys)}
        return session.finish(score.as_json({"inputs": inputs, "data": described, "settings": settings}))


def _masks(job: Job, images: list[TokenizedImage], rates: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return keep masks bool [N, P] by `<method>.<tokens>`; `own` is the tokenizer's threshold as it was trained,
    beside which the others get its mean number of tokens, rounded."""
    odds, own = np.stack([image.log_odds for image in images]), np.stack([image.keep_mask for image in images])
    by_rate = {str(rate): masks_at(odds, rate, job.keys, job.seed) for rate in sorted(rates)}
    mean = max(1, round(float(own.sum(axis=1).mean())))
    by_rate[OWN] = masks_at(odds, mean, job.keys, job.seed) | {"learned": own}
    return {f"{method}.{rate}": by_rate[rate][method] for method in METHODS for rate in by_rate}


def _tokenize(
    job: Job, masks: dict[str, np.ndarray]
) -> tuple[dict[str, dict[str, tuple[str, np.ndarray]]], dict[str, Values]]:
    """Return (image key, codes) of each image under each mask, and what was measured of them."""

    def answer(some: list[int]) -> list[dict[str, np.ndarray]]:
        pixels = job.pixels([job.keys[row] for row in some], job.model.image_px)
        return tokenize_kept(job.model.tokenizer, pixels, [{name: masks[name][row] for name in masks} for row in some])

    places = {key: row for row, key in enumerate(job.keys)}
    rows = job.session.ask(
        places, answer, job.session.array_store("selections"), batch_size=job.decoding.batch_size, unit="image",
        part="selections",
    )  # fmt: skip
    by_key, bits = dict(zip(job.keys, rows, strict=True)), np.log2(job.model.codebook_size)
    codes = {name: {key: (key, row[f"{name}.codes"]) for key, row in by_key.items()} for name in masks}
    values = {
        name: {
            "tokens": {key: float(len(one)) for key, (_, one) in own.items()},
            "bits": {key: len(one) * float(bits) for key, (_, one) in own.items()},
            "feature_error": {
                key: row[f"{name}.error"].item() for key, row in by_key.items() if f"{name}.error" in row
            },
        }
        for name, own in codes.items()
    }
    return codes, values


def _drawn(job: Job, codes: dict[str, tuple[str, np.ndarray]], name: str) -> Values:
    """Return PSNR and SSIM of the images that are drawn from codes."""
    keys = list(codes)
    drawn = draw_all(job, codes, name.replace(".", " "))
    real = job.pixels(keys, drawn.shape[1])
    values = {"psnr_db": dict(zip(keys, psnr(drawn, real).tolist(), strict=True))}
    if min(drawn.shape[1:3]) >= WINDOW:
        pairs = zip(keys, drawn, real, strict=True)
        values["ssim"] = {key: ssim(one, other) for key, one, other in pairs}
    return values


def _add_differences(score: Score, values: dict[str, Values], seed: int) -> None:
    """Add `learned_minus_<method>.<tokens>.*`: paired differences, whose intervals are narrower than each one's."""
    for name, metrics in values.items():
        method, _, rate = name.partition(".")
        if method == "learned":
            continue
        learned = values[f"learned.{rate}"]
        paired = {
            metric: {key: learned[metric][key] - value for key, value in metrics[metric].items()}
            for metric in metrics if metric not in ("tokens", "bits")
        }  # fmt: skip
        add_by_image(score, f"learned_minus_{name}", paired, seed)

"""`lavit eval tokenizer`: what a tokenizer keeps, what it loses, and how its tokens are drawn, without labels."""

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit_core.data import Data, Source, open_data
from lavit_scoring.metrics.pixels import psnr
from lavit_scoring.score import Score

from lavit_evaluation.compute import Compute
from lavit_evaluation.config import EvalTokenizerConfig
from lavit_evaluation.evaluation_session import EvaluationSession, evaluation_session
from lavit_evaluation.model import find_parts, model_digests, open_model
from lavit_evaluation.samples import write_samples
from lavit_evaluation.shapes.heldout import choose_images, image_seeds, read_pixels
from lavit_evaluation.token_warnings import note_findings
from lavit_evaluation.tokenizing.masks import kept_by_cover, read_covers
from lavit_evaluation.tokenizing.metrics import add_rate, add_reconstruction, add_selection, add_tokens
from lavit_evaluation.tokenizing.rates import METHODS, check_rates, masks_at
from lavit_evaluation.tokenizing.tokenize import TokenizedImage, tokenize, tokenize_kept

if TYPE_CHECKING:
    from lavit import LaVIT
    from lavit_tokenizer.api import TokenFacts

PROTOCOL, VERSION = "lavit-tokenizer", 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """One evaluation: whom it asks, about which images, and where answers are kept."""

    model: "LaVIT"
    data: Data
    keys: list[str]
    """Images that are tokenized."""
    config: EvalTokenizerConfig
    seed: int
    session: EvaluationSession

    def chosen(self, count: int) -> list[str]:
        """Return at most `count` of the keys, in order; fewer are always among more."""
        return choose_images(self.data, {}, min(count, len(self.keys)), self.seed)

    def pixels(self, keys: list[str], image_px: int) -> np.ndarray:
        """Return images uint8 [N, px, px, 3]."""
        return read_pixels(self.data, keys, image_px)


def eval_tokenizer(
    model: "Path | LaVIT", data: Path | Source, out: Path | None, config: EvalTokenizerConfig, *,
    masks: Path | None = None, seed: int = 0, compute: Compute = Compute(),
) -> dict[str, Any]:  # fmt: skip
    """Evaluate the tokenizer of a model on the images of `data`, and return score.json's content, written into `out`.

    `masks` is a folder with an object mask for each image. Raises InputError, UsageError, Interrupted.
    """
    source = open_data(data)
    digests = find_parts(model, ("tokenizer",))
    parts = [part for part in ("tokenizer", "detokenizer") if part in model_digests(model)]
    lavit = open_model(model, parts, compute, selection=config.selection)
    keys = choose_images(source, {}, config.images, seed)
    inputs = {**digests, **find_parts(model, parts), "data": source.digest}
    # Before the run directory exists: what is wrong with the inputs must not bind it to them.
    check_rates(config.rates, lavit.grid[0] * lavit.grid[1])
    covers = None if masks is None else read_covers(masks, keys, lavit.image_px, lavit.grid)
    if covers is not None:
        inputs["masks"] = hashlib.sha256(covers.tobytes()).hexdigest()
    settings = {**config.model_dump(mode="json"), "precision": compute.precision, "seed": seed}
    with evaluation_session(
        out, command="eval tokenizer", settings=settings, inputs=inputs, quiet=compute.quiet
    ) as session:
        if session.finished:
            return session.finished
        score = Score(protocol=PROTOCOL, version=VERSION)
        job = Job(model=lavit, data=source, keys=keys, config=config, seed=seed, session=session)
        began = time.monotonic()
        images = _tokenize(job)
        add_tokens(score, images, keys, grid=lavit.grid, codebook_size=lavit.codebook_size, seed=seed)
        add_selection(score, images, seed)
        if covers is not None:
            score.metrics |= kept_by_cover(np.stack([image.keep_mask for image in images]), covers)
        score.seconds["tokens"] = time.monotonic() - began
        can_draw = "detokenizer" in parts
        began = time.monotonic()
        drawn_keys = _reconstruct(job, score, images, can_draw=can_draw)
        score.seconds["reconstruction"] = time.monotonic() - began
        if config.rates:
            began = time.monotonic()
            _compare_rates(job, score, images, can_draw=can_draw)
            score.seconds["rates"] = time.monotonic() - began
        counts = [len(image.codes) for image in images]
        score.notes |= {"kept_histogram": np.bincount(counts).tolist(), "grid": list(lavit.grid)}
        note_findings(score, _facts(score, images, lavit.codebook_size))
        described = {"path": str(data), "images": len(keys), "reconstructions": len(drawn_keys)}
        return session.finish(score.as_json({"inputs": inputs, "data": described, "settings": settings}))


def _tokenize(job: Job) -> list[TokenizedImage]:
    def answer(some: list[str]) -> list[dict[str, np.ndarray]]:
        return [vars(image) for image in tokenize(job.model.tokenizer, job.pixels(some, job.model.image_px))]

    rows = job.session.ask(
        {key: key for key in job.keys}, answer, job.session.array_store("tokens"), batch_size=job.config.batch_size,
        unit="image", part="tokens",
    )  # fmt: skip
    return [TokenizedImage(**row) for row in rows]


def _draw(job: Job, codes: dict[str, tuple[str, np.ndarray]], part: str) -> np.ndarray:
    """Return the images drawn from (image key, codes) by name, uint8 [N, px, px, 3]; an image's seed is its key's."""
    changes = {"num_steps": job.config.decoder_steps, "guidance_scale": job.config.decoder_guidance}

    def answer(some: list[tuple[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        seeds = image_seeds([key for key, _ in some], "reconstruct", job.seed)
        images = job.model.decode([one for _, one in some], seeds, job.model.draw_settings(**changes))
        return [{"pixels": np.asarray(image)} for image in images]

    rows = job.session.ask(
        codes, answer, job.session.array_store(part), batch_size=job.config.batch_size, unit="image", part=part
    )  # fmt: skip
    return np.stack([row["pixels"] for row in rows])


def _reconstruct(job: Job, score: Score, images: list[TokenizedImage], *, can_draw: bool) -> list[str]:
    """Draw images from their tokens and score them; return the keys of those that were drawn."""
    keys = job.chosen(job.config.reconstructions)
    if not can_draw or not keys:
        score.skipped["reconstruction"] = "no reconstructions were asked for" if can_draw else "no detokenizer"
        _write_samples(job, images, None)
        return []
    by_key = dict(zip(job.keys, images, strict=True))
    drawn = _draw(job, {key: (key, by_key[key].codes) for key in keys}, "reconstruction")
    real = job.pixels(keys, drawn.shape[1])
    add_reconstruction(score, drawn, real, keys, grid=job.model.grid, seed=job.seed)
    _write_samples(job, images, dict(zip(keys, zip(real, drawn, psnr(drawn, real), strict=True), strict=True)))
    return keys


def _write_samples(job: Job, images: list[TokenizedImage], drawn: dict[str, tuple[Any, ...]] | None) -> None:
    """Write the first images with their kept patches, and with their reconstruction where they were drawn."""
    if job.session.run is None:
        return
    rows: list[dict[str, Any]] = []
    by_key = dict(zip(job.keys, images, strict=True))
    for key in list(job.keys if drawn is None else drawn)[: job.config.samples]:
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


def _compare_rates(job: Job, score: Score, images: list[TokenizedImage], *, can_draw: bool) -> None:
    """Choose the same number of tokens in each way, and score features and drawings of each."""
    keys, by_key = job.chosen(job.config.rate_images), dict(zip(job.keys, images, strict=True))
    odds = np.stack([by_key[key].log_odds for key in keys])
    masks = {
        f"{method}.{rate}": chosen
        for rate in job.config.rates
        for method, chosen in masks_at(odds, rate, keys, job.seed).items()
    }

    def answer(some: list[int]) -> list[dict[str, np.ndarray]]:
        pixels = job.pixels([keys[row] for row in some], job.model.image_px)
        own = [{name: masks[name][row] for name in masks} for row in some]
        return tokenize_kept(job.model.tokenizer, pixels, own)

    rows = list(
        job.session.ask(
            {key: row for row, key in enumerate(keys)}, answer, job.session.array_store("rates"),
            batch_size=job.config.batch_size, unit="image", part="rates",
        )
    )  # fmt: skip
    by_row = dict(zip(keys, rows, strict=True))
    drawn_keys = job.chosen(min(job.config.rate_reconstructions, len(keys))) if can_draw else []
    for name in masks:
        codes = {key: (key, by_row[key][f"{name}.codes"]) for key in keys}
        values: dict[str, dict[str, float]] = {
            "tokens": {key: len(own) for key, (_, own) in codes.items()},
            "feature_error": {
                key: row[f"{name}.error"].item() for key, row in by_row.items() if f"{name}.error" in row
            },
        }
        if drawn_keys:
            drawn = _draw(job, {key: codes[key] for key in drawn_keys}, f"rates, {name.replace('.', ' ')}")
            ratios = psnr(drawn, job.pixels(drawn_keys, drawn.shape[1]))
            values["psnr_db"] = dict(zip(drawn_keys, ratios.tolist(), strict=True))
        add_rate(score, f"rate_{name}", values, job.seed)
    score.notes["rates"] = dict(METHODS)


def _facts(score: Score, images: list[TokenizedImage], codebook_size: int) -> "TokenFacts":
    """Return what is known about the tokens, and about seams where images were drawn."""
    from lavit_tokenizer.api import facts_of

    codes = np.bincount(np.concatenate([image.codes for image in images]), minlength=codebook_size)
    keep, detail = np.stack([image.keep_mask for image in images]), np.stack([image.detail for image in images])
    ratios = [score.metrics.get(f"reconstruction.{name}") for name in ("seam_ratio", "seam_ratio_originals")]
    drawn, real = (None if ratio is None else ratio.value for ratio in ratios)
    return dataclasses.replace(facts_of(keep, detail, codes), seam_ratio=drawn, seam_ratio_originals=real)

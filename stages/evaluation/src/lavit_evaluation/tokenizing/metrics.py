"""Metrics of tokenized images, from arrays alone. Letters: N images, P patches."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lavit_scoring import Estimate
from lavit_scoring.bootstrap import bootstrap_mean, ends, resampled_sums
from lavit_scoring.estimate import exact, proportion
from lavit_scoring.metrics.pixels import WINDOW, psnr, ssim
from lavit_scoring.metrics.ranks import placements, rank_correlation, ranks
from lavit_scoring.score import Score

from lavit_evaluation.token_metrics import code_metrics, count_metrics
from lavit_evaluation.tokenizing.seams import mean_steps
from lavit_evaluation.tokenizing.tokenize import TokenizedImage


def add_tokens(
    score: Score, images: Sequence[TokenizedImage], keys: Sequence[str], *, grid: tuple[int, int], codebook_size: int,
    seed: int,
) -> None:  # fmt: skip
    """Add `tokens.*`: tokens an image and their bits, use of the codebook, and the error of decoded features."""
    from lavit_tokenizer.api import FEW_TOKENS

    counts = np.array([len(image.codes) for image in images])
    codes = np.bincount(np.concatenate([image.codes for image in images]), minlength=codebook_size)
    score.metrics |= count_metrics(counts.tolist(), grid)
    score.metrics["tokens.kept"] = bootstrap_mean(counts, keys, seed, "tokens.kept")
    score.metrics[f"tokens.fewer_than_{FEW_TOKENS}"] = proportion((counts < FEW_TOKENS).tolist())
    bits = counts * np.log2(codebook_size)
    score.metrics["tokens.bits"] = bootstrap_mean(bits, keys, seed, "tokens.bits")
    sizes = np.array([image.jpeg_bytes.item() for image in images])
    _add(score, "tokens.jpeg_rank_correlation", _correlation, counts, sizes, seed)
    score.metrics |= code_metrics("tokens", codes)
    if images[0].errors.size:
        errors = np.stack([image.errors for image in images]).mean(axis=1, dtype=np.float64)
        score.metrics["tokens.feature_error"] = bootstrap_mean(errors, keys, seed, "tokens.feature_error")
    else:
        score.skipped["tokens.feature_error"] = "the tokenizer has no feature decoder"


def add_selection(score: Score, images: Sequence[TokenizedImage], seed: int) -> None:
    """Add `selection.*`: detail of kept and dropped patches, and what decides which are kept."""
    from lavit_tokenizer.api import keep_moments, place_explained, selector_explained_variance
    from torch import from_numpy

    keep, detail = np.stack([one.keep_mask for one in images]), np.stack([one.detail for one in images])
    odds, probability = np.stack([one.log_odds for one in images]), np.stack([one.keep_probability for one in images])
    for name, where in (("kept", keep), ("dropped", ~keep)):
        parts = np.stack([(detail * where).sum(1), where.sum(1)], axis=1)
        _add(score, f"selection.detail_{name}", _ratio, parts, seed)
    _add(score, "selection.detail_auc", _detail_auc, detail, odds, seed)
    # Where place alone decides, resampled images would find more than there is: no interval.
    place = place_explained(probability)
    if place is None:
        score.skipped["selection.place_explained"] = "all keep probabilities are equal"
    else:
        score.metrics["selection.place_explained"] = exact(place, len(images))
    log_keep = from_numpy(np.log(np.maximum(probability, 1e-300)))[..., None]
    score.metrics["selection.decided"] = exact(selector_explained_variance(keep_moments(log_keep)), len(images))


def add_reconstruction(
    score: Score, drawn: np.ndarray, real: np.ndarray, keys: Sequence[str], *, grid: tuple[int, int] | None, seed: int
) -> dict[str, list[float]]:
    """Add `reconstruction.*` of drawn and real uint8 images [N, px, px, 3]: PSNR, SSIM and, where the grid of patches
    is known, seams; return PSNR and SSIM of each image."""
    columns = {"psnr_db": psnr(drawn, real).tolist()}
    if min(drawn.shape[1:3]) >= WINDOW:
        columns["ssim"] = [ssim(one, other) for one, other in zip(drawn, real, strict=True)]
    else:
        score.skipped["reconstruction.ssim"] = f"images of {drawn.shape[1]} pixels, expected at least {WINDOW}"
    for name, values in columns.items():
        score.metrics[f"reconstruction.{name}"] = bootstrap_mean(values, keys, seed, f"reconstruction.{name}")
    if grid is not None:
        _add_seams(score, drawn, real, grid, seed)
    return columns


def _add_seams(score: Score, drawn: np.ndarray, real: np.ndarray, grid: tuple[int, int], seed: int) -> None:
    for name, pixels in (("seam_ratio", drawn), ("seam_ratio_originals", real)):
        _add(score, f"reconstruction.{name}", _seam_ratio, mean_steps(pixels, grid), seed)


def add_by_image(score: Score, name: str, values: Mapping[str, Mapping[str, float]], seed: int) -> None:
    """Add the means `name.*` of metrics, from the values of each image by its key; those of no image are left out."""
    for metric, by_key in values.items():
        if by_key:
            title = f"{name}.{metric}"
            score.metrics[title] = bootstrap_mean(np.array(list(by_key.values())), list(by_key), seed, title)


def _add(score: Score, name: str, compute: Callable[..., Estimate], *arguments: Any) -> None:
    """Add a metric, or the reason why it is not defined."""
    try:
        score.metrics[name] = compute(*arguments, name)
    except ValueError as error:
        score.skipped[name] = str(error)


def _ratio(parts: np.ndarray, seed: int, name: str) -> Estimate:
    """Return the ratio of two sums over images, from both parts of each image [N, 2]; the second counts patches."""
    over, under = parts.sum(axis=0)
    if not under:
        raise ValueError("there are no such patches")

    def ratio(sums: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan)

    low, high = ends(ratio(resampled_sums(parts, seed, name)))
    return Estimate(float(over / under), low, high, int(under))


def _seam_ratio(steps: np.ndarray, seed: int, name: str) -> Estimate:
    """Return the ratio of the mean steps across borders and within patches of each image [N, 2]."""
    if not np.isfinite(steps).all() or not steps[:, 1].any():
        raise ValueError("images of one patch, or of one colour, have no seams")
    return dataclasses.replace(_ratio(steps, seed, name), n=len(steps))


def _correlation(counts: np.ndarray, sizes: np.ndarray, seed: int, name: str) -> Estimate:
    """Return Spearman's rank correlation of two lists [N]; the interval keeps the ranks among all images."""
    value = rank_correlation(counts, sizes)
    x, y = ranks(counts), ranks(sizes)

    def pearson(sums: np.ndarray) -> np.ndarray:
        x, y, xx, yy, xy = (sums / len(counts)).T
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y)))

    parts = np.stack([x, y, x * x, y * y, x * y], axis=1)
    low, high = ends(pearson(resampled_sums(parts, seed, name)))
    return Estimate(value, low, high, len(counts))


def _detail_auc(detail_NP: np.ndarray, odds_NP: np.ndarray, seed: int, name: str) -> Estimate:
    """Return how well the keep probability tells patches with more than the median detail from the others.

    The interval resamples images and keeps each patch's placement among the patches of the other kind.
    """
    rich = detail_NP > np.median(detail_NP)
    placed = placements(rich.ravel(), odds_NP.ravel()).reshape(rich.shape)
    value = float(placed[rich].mean())
    parts = np.stack([(placed * rich).sum(1), rich.sum(1), (placed * ~rich).sum(1), (~rich).sum(1)], axis=1)

    def area(sums: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(sums[:, 0] / sums[:, 1] + sums[:, 2] / sums[:, 3] - value)

    low, high = ends(area(resampled_sums(parts, seed, name)))
    return Estimate(value, low, high, rich.size)

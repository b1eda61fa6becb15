"""Metrics of tokenized images, on images that were made to have them."""

import numpy as np
import pytest
from lavit_evaluation.tokenizing.metrics import add_by_image, add_reconstruction, add_selection, add_tokens
from lavit_evaluation.tokenizing.tokenize import TokenizedImage
from lavit_scoring.score import Score

pytest.importorskip("lavit_tokenizer.api")

P = 16
KEYS = [f"{index}.png" for index in range(40)]


def image(keep: np.ndarray, *, detail: np.ndarray, odds: np.ndarray | None = None, size: int = 500) -> TokenizedImage:
    return TokenizedImage(
        codes=np.arange(keep.sum()) % 8,
        keep_mask=keep,
        log_odds=np.where(keep, 2.0, -2.0).astype(np.float32) if odds is None else odds.astype(np.float32),
        detail=detail,
        errors=np.full(P, 0.25, np.float32),
        jpeg_bytes=np.asarray(size),
    )


def some(*, keeps_detail: bool) -> list[TokenizedImage]:
    """Images of 1 to 8 patches with detail, of which a selector keeps these, or as many others."""
    draw, images = np.random.default_rng(0), []
    for _ in KEYS:
        rich = np.zeros(P, dtype=bool)
        rich[draw.permutation(P)[: draw.integers(1, 9)]] = True
        keep = rich if keeps_detail else np.roll(rich, 1) & ~rich
        keep = keep if keep.any() else ~rich
        images.append(image(keep, detail=np.where(rich, 0.3, 0.01), size=1000 + 50 * int(rich.sum())))
    return images


def selection(images: list[TokenizedImage]) -> Score:
    score = Score(protocol="p", version=1)
    add_selection(score, images, seed=0)
    return score


def test_a_selector_that_keeps_what_shows_something() -> None:
    metrics = selection(some(keeps_detail=True)).metrics
    assert (metrics["selection.detail_kept"].value, metrics["selection.detail_dropped"].value) == pytest.approx(
        (0.3, 0.01)
    )
    assert metrics["selection.detail_auc"].value == 1
    assert metrics["selection.place_explained"].value < 0.1
    high, low = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))
    share = np.mean([one.keep_mask.mean() for one in some(keeps_detail=True)])
    mean = share * high + (1 - share) * low
    spread = share * high**2 + (1 - share) * low**2 - mean**2
    assert metrics["selection.decided"].value == pytest.approx(spread / (mean * (1 - mean)), rel=1e-6)


def test_a_selector_that_keeps_the_rest() -> None:
    metrics = selection(some(keeps_detail=False)).metrics
    assert metrics["selection.detail_kept"].value < metrics["selection.detail_dropped"].value
    assert metrics["selection.detail_auc"].value < 0.5
    for name in ("detail_dropped", "detail_auc"):
        one = metrics[f"selection.{name}"]
        assert one.low <= one.value <= one.high


def test_an_interval_of_the_auc_covers_what_a_bootstrap_of_images_finds() -> None:
    draw = np.random.default_rng(1)
    images = []
    for _ in range(60):
        level = draw.normal()  # patches of an image are alike
        detail = np.exp(level + draw.normal(size=P))
        images.append(image(np.ones(P, dtype=bool), detail=detail, odds=np.log(detail) + 2 * draw.normal(size=P)))
    found = selection(images).metrics["selection.detail_auc"]
    values = []
    for _ in range(300):
        again = [images[index] for index in draw.integers(0, 60, 60)]
        detail, odds = np.concatenate([one.detail for one in again]), np.concatenate([one.log_odds for one in again])
        rich = detail > np.median([one.detail for one in images])
        values.append((odds[rich][:, None] > odds[~rich][None]).mean())
    low, high = np.percentile(values, [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.015), pytest.approx(high, abs=0.015))


def test_place_alone_and_a_selector_without_an_opinion() -> None:
    flat = np.full(P, 0.1)
    by_place = [image(np.arange(P) < 4, detail=flat) for _ in KEYS]
    score = selection(by_place)
    assert score.metrics["selection.place_explained"].value == pytest.approx(1)
    assert "some of both" in score.skipped["selection.detail_auc"]
    everything = [image(np.ones(P, dtype=bool), detail=flat, odds=np.zeros(P)) for _ in KEYS]
    score = selection(everything)
    assert set(score.skipped) == {
        "selection.detail_dropped", "selection.detail_auc", "selection.place_explained"
    }  # fmt: skip


def tokens(images: list[TokenizedImage]) -> Score:
    score = Score(protocol="p", version=1)
    add_tokens(score, images, KEYS[: len(images)], grid=(4, 4), codebook_size=256, seed=0)
    return score


def test_tokens_their_bits_and_their_order() -> None:
    images = some(keeps_detail=True)
    counts = np.array([len(one.codes) for one in images])
    metrics = tokens(images).metrics
    assert metrics["tokens.kept"].value == counts.mean()
    assert metrics["tokens.bits"].value == pytest.approx(8 * counts.mean())
    assert metrics["tokens.fewer_than_3"].value == (counts < 3).mean()
    assert metrics["tokens.jpeg_rank_correlation"].value == pytest.approx(1)  # sizes were made from the counts
    assert metrics["tokens.feature_error"].value == pytest.approx(0.25)
    assert metrics["tokens.code_usage"].value == 8 / 256
    same = tokens([image(np.arange(P) < 4, detail=np.ones(P), size=n) for n in range(9)])
    assert "all values are equal" in same.skipped["tokens.jpeg_rank_correlation"]


def test_reconstructions_with_and_without_seams() -> None:
    draw = np.random.default_rng(0)
    real = draw.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    score = Score(protocol="p", version=1)
    add_reconstruction(score, real, real, KEYS[:6], grid=(4, 4), seed=0)
    values = {name.partition(".")[2]: one.value for name, one in score.metrics.items()}
    assert values["psnr_db"] == 99
    assert values["ssim"] == pytest.approx(1)
    assert values["seam_ratio"] == values["seam_ratio_originals"] == pytest.approx(1, abs=0.1)
    cells = real.reshape(6, 4, 4, 4, 4, 3).mean((2, 4), keepdims=True)
    coarse = ((0.9 * cells + 0.1 * real.reshape(6, 4, 4, 4, 4, 3)).reshape(real.shape)).astype(np.uint8)
    add_reconstruction(score, coarse, real, KEYS[:6], grid=(4, 4), seed=0)
    assert score.metrics["reconstruction.seam_ratio"].value > 1.5
    small = Score(protocol="p", version=1)
    add_reconstruction(small, real[:, :8, :8], real[:, :8, :8], KEYS[:6], grid=(1, 1), seed=0)
    assert set(small.skipped) == {
        "reconstruction.ssim", "reconstruction.seam_ratio", "reconstruction.seam_ratio_originals"
    }  # fmt: skip


def test_a_rate_has_the_metrics_that_were_measured() -> None:
    score = Score(protocol="p", version=1)
    add_by_image(
        score, "rate_topk.4", {"tokens": {"a": 4, "b": 4}, "feature_error": {}, "psnr_db": {"a": 20.0}}, seed=0
    )
    assert {name: (one.value, one.n) for name, one in score.metrics.items()} == {
        "rate_topk.4.tokens": (4, 2), "rate_topk.4.psnr_db": (20, 1)
    }  # fmt: skip

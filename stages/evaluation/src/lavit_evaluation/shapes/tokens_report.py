"""Metrics of the tokenizer: kept patches by where they are, code usage, perplexity, feature error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from lavit_core.seeds import epoch_batches
from lavit_core.tokens import TokenReader
from lavit_scoring import Estimate
from lavit_scoring.estimate import exact, mean, ratio
from lavit_shapes.scenes import Scene

from lavit_evaluation.shapes.judge import outline
from lavit_evaluation.token_metrics import code_metrics, count_metrics

if TYPE_CHECKING:
    from lavit import LaVIT

SHAPE_COVER = 0.5
"""A patch lies on a shape when shapes cover at least this much of it, on the background when they cover none of it."""

CORPUS_SLICE = 65536
"""Samples of a token directory that are read at once."""

_FINE = 4
"""Cover is counted on a grid this many times finer than the pixels of a patch side would need."""


@dataclass(frozen=True, kw_only=True)
class EncodedImage:
    """One image after the tokenizer. Letters: P patches, D feature width."""

    codes: np.ndarray
    """Codebook indices int64 [n]."""
    keep_mask: np.ndarray
    """Which patches were kept, bool [P] in raster order."""
    errors: np.ndarray
    """1 - cosine between decoded and target feature of each patch, float [P]."""
    unit_target_sum: np.ndarray
    """Sum over the patches of the target features scaled to length one, float [D]."""


def encode(model: "LaVIT", pixels: np.ndarray) -> list[EncodedImage]:
    """Return codes, masks and feature errors of uint8 images [B, px, px, 3]."""
    import torch
    from torch.nn.functional import normalize

    tokens = model.encode(pixels)
    with torch.inference_mode():
        decoded = model.tokenizer.decode_codes(
            torch.from_numpy(np.concatenate(tokens.codes)), torch.from_numpy(tokens.counts)
        )
        unit = normalize(model.tokenizer.features(torch.from_numpy(pixels)), dim=-1)
        errors = 1 - (unit * normalize(decoded, dim=-1)).sum(-1)
    parts = (tokens.codes, tokens.keep_mask, errors.cpu().numpy(), unit.sum(1).cpu().numpy())
    return [
        EncodedImage(codes=codes, keep_mask=keep_mask, errors=error, unit_target_sum=unit_sum)
        for codes, keep_mask, error, unit_sum in zip(*parts, strict=True)
    ]


def patch_cover(scene: Scene, grid: tuple[int, int], *, scene_px: int) -> np.ndarray:
    """Return the share of each patch that shapes cover, float [rows * columns] in raster order."""
    rows, columns = grid
    fine = _FINE * max(scene_px // max(rows, columns), 1)
    y = ((np.arange(rows * fine) + 0.5) * scene_px / (rows * fine))[:, None]
    x = ((np.arange(columns * fine) + 0.5) * scene_px / (columns * fine))[None, :]
    covered = np.zeros((rows * fine, columns * fine), dtype=bool)
    for thing in scene.objects:
        covered |= outline(thing.shape, x - thing.x, y - thing.y, np.asarray(thing.radius))
    return covered.reshape(rows, fine, columns, fine).mean((1, 3)).ravel()


def kept_by_place(keep_masks: np.ndarray, covers: np.ndarray) -> dict[str, Estimate]:
    """Return the share of kept patches on shapes, on their edges and on the background; both inputs are [N, P]."""
    places = {
        "on_shapes": covers >= SHAPE_COVER,
        "on_edges": (covers > 0) & (covers < SHAPE_COVER),
        "on_background": covers == 0,
    }
    return {f"tokens.kept_{place}": ratio((keep_masks & where).sum(1), where.sum(1)) for place, where in places.items()}


def corpus_metrics(reader: TokenReader) -> dict[str, Estimate]:
    """Return `corpus.*`, the code usage and kept count over a whole token directory, read in slices."""
    size = reader.manifest.codebook_size
    code_counts = np.zeros(size, dtype=np.int64)
    for batch in epoch_batches(len(reader), CORPUS_SLICE):
        values, _ = reader.codes(np.arange(batch.start, batch.stop))
        code_counts += np.bincount(values, minlength=size)
    return {"corpus.kept": mean(reader.counts), **code_metrics("corpus", code_counts)}


def mean_predictor_error(images: Sequence[EncodedImage]) -> float:
    """Return the mean 1 - cosine of the best constant prediction: one minus the length of the mean unit target."""
    sums = np.stack([image.unit_target_sum for image in images])
    mean_unit = sums.sum(0, dtype=np.float64) / sum(image.keep_mask.size for image in images)
    return 1.0 - float(np.linalg.norm(mean_unit))


def score_tokens(
    images: Sequence[EncodedImage],
    scenes: Sequence[Scene | None],
    *,
    grid: tuple[int, int],
    codebook_size: int,
    scene_px: int = 64,
) -> dict[str, Estimate]:
    """Return the metrics `tokens.*` of encoded images; scenes are None where the data has none."""
    counts = [len(image.codes) for image in images]
    metrics = count_metrics(counts, grid)
    drawn = [(index, scene) for index, scene in enumerate(scenes) if scene is not None]
    if drawn:
        covers = np.stack([patch_cover(scene, grid, scene_px=scene_px) for _, scene in drawn])
        metrics |= kept_by_place(np.stack([images[index].keep_mask for index, _ in drawn]), covers)
    codes = np.concatenate([image.codes for image in images])
    metrics |= code_metrics("tokens", np.bincount(codes, minlength=codebook_size))
    # Patches of an image are not independent: the interval is over images.
    metrics["tokens.feature_error"] = mean(np.stack([image.errors for image in images]).mean(1))
    metrics["tokens.feature_error_mean_predictor"] = exact(mean_predictor_error(images), len(counts))
    return metrics

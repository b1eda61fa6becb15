"""Features of labelled places at every station of a tokenizer: the only file of the probe that runs a model.

Letters: B images, P patches, W the width of a station, M places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from lavit_core.data import Data
from lavit_core.images import open_rgb, resize_to_square

from lavit_evaluation.evaluation_session import EvaluationSession
from lavit_evaluation.probing.labels import Box

if TYPE_CHECKING:
    from lavit import LaVIT
    from lavit_tokenizer.api import TokenFacts, VisualTokenizer

Place = tuple[str, Box | None]
"""An image and a box in it, in pixels of the image; None is the whole image."""

STATIONS = {
    "encoder": "encoder, all patches",
    "kept": "encoder, kept patches",
    "merged": "merged",
    "vectors": "before quantisation",
    "codes": "code vectors",
    "decoded_vectors": "decoded, not quantised",
    "decoded": "decoded from codes",
}
"""Stations in forward order, and what a table calls them."""

ON_TOKENS = ("kept", "merged", "vectors", "codes")
"""Stations that exist at kept patches only."""


KEPT_INSIDE = "kept_inside"

TOKENS = ("token_mask", "token_detail", "token_codes")
"""What is kept of each image beside the features of its places."""


@dataclass(frozen=True, kw_only=True)
class PlaceFeatures:
    """What each station holds at each place."""

    by_station: dict[str, np.ndarray]
    """float32 [M, W], in the order of the places."""
    kept_inside: np.ndarray
    """bool [M]: at least one kept patch has its centre in the place's box."""
    facts: "TokenFacts"
    """What is known about the tokens of all images."""


def read_places(
    session: EvaluationSession, model: "LaVIT", data: Data, places: Sequence[Place], *, batch_size: int, part: str
) -> PlaceFeatures:
    """Return the features of places; a station on kept patches reads the kept ones inside the box, or the nearest."""
    from lavit_tokenizer.api import facts_of, patch_detail

    paths = {record.key: record.image for record in data.records}
    wanted: dict[str, list[int]] = {}
    for index, (key, _) in enumerate(places):
        wanted.setdefault(key, []).append(index)
    grid = model.grid

    def read(keys: list[str]) -> list[dict[str, np.ndarray]]:
        images = [open_rgb(paths[key]) for key in keys]
        pixels = np.stack([resize_to_square(image, model.image_px) for image in images])
        stations, keep_BP, codes = dense_stations(model.tokenizer, pixels)
        tokens = zip(keep_BP, patch_detail(pixels, grid), codes, strict=True)
        rows = []
        for row, (key, image, own) in enumerate(zip(keys, images, tokens, strict=True)):
            boxes = [places[index][1] for index in wanted[key]]
            inside = np.stack([patches_inside(box, image.size, grid) for box in boxes])
            everywhere = np.ones_like(keep_BP[row])
            vectors = {
                station: np.stack([
                    reading_weights(box, image.size, grid, keep_BP[row] if station in ON_TOKENS else everywhere)
                    @ x_BPW[row] for box in boxes
                ]).astype(np.float32)
                for station, x_BPW in stations.items()
            }  # fmt: skip
            rows.append({**vectors, KEPT_INSIDE: (inside & keep_BP[row]).any(1), **dict(zip(TOKENS, own, strict=True))})
        return rows

    store = session.array_store(f"{part} and tokens")
    rows = list(session.ask({key: key for key in wanted}, read, store, batch_size=batch_size, unit="image", part=part))
    order = np.argsort([index for indices in wanted.values() for index in indices])
    joined = {
        name: np.concatenate([row[name] for row in rows])[order] for name in (*STATIONS, KEPT_INSIDE) if name in rows[0]
    }
    keep, detail, codes = ([row[name] for row in rows] for name in TOKENS)
    counts = np.bincount(np.concatenate(codes), minlength=model.codebook_size)
    facts = facts_of(np.stack(keep), np.stack(detail), counts, model.tokenizer.config.codebook_factors)
    return PlaceFeatures(kept_inside=joined.pop(KEPT_INSIDE), by_station=joined, facts=facts)


def dense_stations(
    tokenizer: "VisualTokenizer", pixels: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray, list[np.ndarray]]:
    """Return every station as float32 [B, P, W] (zeros where a patch was dropped), the keep mask bool [B, P], and the
    codes int64 [n] of each image."""
    import torch

    encoded = tokenizer.encode(torch.from_numpy(pixels), return_intermediates=True)
    keep, steps = encoded.keep_mask.cpu().numpy(), encoded.intermediates
    assert steps is not None

    def spread(rows: torch.Tensor) -> np.ndarray:
        dense = np.zeros((*keep.shape, rows.shape[1]), dtype=np.float32)
        dense[keep] = rows.cpu().numpy()
        return dense

    features = steps.features.cpu().numpy()
    stations = {
        "encoder": features,
        "kept": features,
        "merged": spread(encoded.merged),
        "vectors": spread(steps.vectors),
        "codes": spread(tokenizer.quantizer.vectors(encoded.codes)),
    }
    if tokenizer.config.decoder_layers:  # imported tokenizers may have no feature decoder
        stations["decoded_vectors"] = tokenizer.decode_vectors(steps.vectors, encoded.counts).cpu().numpy()
        stations["decoded"] = tokenizer.decode_codes(encoded.codes, encoded.counts).cpu().numpy()
    return stations, keep, np.split(encoded.codes.cpu().numpy(), keep.sum(axis=1).cumsum()[:-1])


def patches_inside(box: Box | None, size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """Return bool [P], True for the patches whose centre lies in a box of an image of `size` (width, height)."""
    x, y = patch_centres(size, grid)
    if box is None:
        return np.ones(x.shape, dtype=bool)
    left, top, right, bottom = box
    return (left <= x) & (x <= right) & (top <= y) & (y <= bottom)


def reading_weights(box: Box | None, size: tuple[int, int], grid: tuple[int, int], there: np.ndarray) -> np.ndarray:
    """Return weights [P] that sum to 1: the mean over the patches that are `there` and inside the box, or the one of
    them that lies nearest to the box's middle."""
    chosen = patches_inside(box, size, grid) & there
    if not chosen.any():
        assert box is not None  # at least one patch is always kept
        x, y = patch_centres(size, grid)
        # In shares of the sides: the image was squashed to a square.
        away = ((x - (box[0] + box[2]) / 2) / size[0]) ** 2 + ((y - (box[1] + box[3]) / 2) / size[1]) ** 2
        chosen = np.zeros_like(there)
        chosen[int(np.where(there, away, np.inf).argmin())] = True
    return chosen / chosen.sum()


def patch_centres(size: tuple[int, int], grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the patches' centres, [P] each in raster order, in pixels of an image of `size`."""
    rows, columns = grid
    y, x = np.mgrid[0:rows, 0:columns] + 0.5
    return (x * size[0] / columns).ravel(), (y * size[1] / rows).ravel()

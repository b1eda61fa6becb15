"""Features of labelled places at every station of a tokenizer: the only file of the probe that runs a model.

Letters: B pictures, P patches, W the width of a station, M places.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from lavit_core.data import Data
from lavit_core.errors import Interrupted
from lavit_core.images import open_rgb, resize_to_square
from lavit_core.progress import Progress

from lavit_evaluation.probing.labels import Box

if TYPE_CHECKING:
    from lavit_tokenizer.api import VisualTokenizer

Place = tuple[str, Box | None]
"""A picture and a box in it, in pixels of the picture; None is the whole picture."""

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


@dataclass(frozen=True, kw_only=True)
class PlaceFeatures:
    """What each station holds at each place."""

    by_station: dict[str, np.ndarray]
    """float32 [M, W], in the order of the places."""
    kept_inside: np.ndarray
    """bool [M]: at least one kept patch has its centre in the place's box."""


def read_places(
    tokenizer: "VisualTokenizer", data: Data, places: Sequence[Place], *, batch_size: int, progress: Progress,
    stop: Callable[[], bool],
) -> PlaceFeatures:  # fmt: skip
    """Return the features of places; a station on kept patches reads the kept ones inside the box, or the nearest."""
    paths = {record.key: record.path for record in data.records}
    wanted: dict[str, list[int]] = {}
    for index, (key, _) in enumerate(places):
        wanted.setdefault(key, []).append(index)
    keys = list(wanted)
    found: dict[str, list[np.ndarray]] = {}
    kept_inside = np.zeros(len(places), dtype=bool)
    for start in range(0, len(keys), batch_size):
        if stop():
            raise Interrupted("eval probe: stopped; run the same command to start over")
        some = keys[start : start + batch_size]
        pictures = [open_rgb(paths[key]) for key in some]
        image_px = tokenizer.config.preprocessing.image_px
        pixels = np.stack([resize_to_square(picture, image_px) for picture in pictures])
        stations, keep_BP = dense_stations(tokenizer, pixels)
        for row, (key, picture) in enumerate(zip(some, pictures, strict=True)):
            for index in wanted[key]:
                inside = patches_inside(places[index][1], picture.size, tokenizer.config.grid)
                kept_inside[index] = bool((inside & keep_BP[row]).any())
                everywhere = np.ones_like(inside)
                for station, x_BPW in stations.items():
                    there = keep_BP[row] if station in ON_TOKENS else everywhere
                    weights = reading_weights(places[index][1], picture.size, tokenizer.config.grid, there)
                    found.setdefault(station, [np.empty(0)] * len(places))[index] = weights @ x_BPW[row]
        progress.advance(len(some))
    by_station = {station: np.stack(rows).astype(np.float32) for station, rows in found.items()}
    return PlaceFeatures(by_station=by_station, kept_inside=kept_inside)


def dense_stations(tokenizer: "VisualTokenizer", pixels: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return every station as float32 [B, P, W] (zeros where a patch was dropped), and the keep mask bool [B, P]."""
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
        "codes": spread(tokenizer.quantizer.codebook[encoded.codes]),
    }
    if tokenizer.config.decoder_layers:  # imported tokenizers may have no feature decoder
        stations["decoded_vectors"] = tokenizer.decode_vectors(steps.vectors, encoded.counts).cpu().numpy()
        stations["decoded"] = tokenizer.decode_codes(encoded.codes, encoded.counts).cpu().numpy()
    return stations, keep


def patches_inside(box: Box | None, size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """Return bool [P], True for the patches whose centre lies in a box of a picture of `size` (width, height)."""
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
        # In shares of the sides: the picture was squashed to a square.
        away = ((x - (box[0] + box[2]) / 2) / size[0]) ** 2 + ((y - (box[1] + box[3]) / 2) / size[1]) ** 2
        chosen = np.zeros_like(there)
        chosen[int(np.where(there, away, np.inf).argmin())] = True
    return chosen / chosen.sum()


def patch_centres(size: tuple[int, int], grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the patches' centres, [P] each in raster order, in pixels of a picture of `size`."""
    rows, columns = grid
    y, x = np.mgrid[0:rows, 0:columns] + 0.5
    return (x * size[0] / columns).ravel(), (y * size[1] / rows).ravel()


def load_probed(model: Path, device: str) -> "VisualTokenizer":
    """Load the tokenizer of a model directory. Raises InputError when it, or the stage that runs it, is missing."""
    from lavit_core.errors import InputError

    try:
        from lavit_tokenizer.api import load_tokenizer
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lavit_tokenizer":
            raise
        raise InputError(
            f"eval probe needs lavit-tokenizer to run {model}, which is not installed; "
            "run `pip install -r stages/workspace.txt`"
        ) from None
    return load_tokenizer(model, device=device)
